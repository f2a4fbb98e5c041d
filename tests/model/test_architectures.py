"""The table of architectures, against llama.cpp's own list of what their files hold."""

from __future__ import annotations

import gguf
import pytest

from rocmforge.errors import UnsupportedError
from rocmforge.model import ARCHITECTURES
from rocmforge.model.architecture import Presence
from rocmforge.model.architectures import find_architecture

NAMES = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
T = gguf.MODEL_TENSOR


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_entry_is_found_by_the_name_that_files_use(name: str) -> None:
    assert find_architecture(name).name == name
    assert name in NAMES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_steps_agree_with_the_tensors_that_converters_write(name: str) -> None:
    architecture, tensors = ARCHITECTURES[name], set(gguf.MODEL_TENSORS[NAMES[name]])
    assert (architecture.qk_norm is not Presence.NEVER) == (T.ATTN_Q_NORM in tensors)
    assert architecture.experts == (T.FFN_GATE_EXP in tensors)
    assert architecture.sinks == (T.ATTN_SINKS in tensors)
    assert architecture.post_norms == (T.FFN_POST_NORM in tensors)
    # The lists of these have position embeddings, but their models rotate.
    has_positions = T.POS_EMBD in tensors and name not in ("codeshell", "nomic-bert")
    assert (not architecture.rotates and not architecture.alibi) == has_positions
    assert architecture.input_norm == (T.TOKEN_EMBD_NORM in tensors)
    assert architecture.text_types == (T.TOKEN_TYPES in tensors)
    assert architecture.sum_norms == (T.LAYER_OUT_NORM in tensors)
    assert architecture.pre_norms == (T.ATTN_NORM in tensors)
    assert architecture.long_rope == (T.ROPE_FACTORS_LONG in tensors)
    assert architecture.attn_norm_2 == (T.ATTN_NORM_2 in tensors)
    shared = architecture.shared_expert is not Presence.NEVER
    assert shared == (T.FFN_UP_SHEXP in tensors)
    assert architecture.shared_expert_gate == (T.FFN_GATE_INP_SHEXP in tensors)
    choice = architecture.expert_choice_bias is not Presence.NEVER
    assert choice == (T.FFN_EXP_PROBS_B in tensors)
    assert architecture.latent == (T.ATTN_KV_A_MQA in tensors)
    # Others may name rope_freqs too, but llama.cpp's graphs of them have no use for it.
    if architecture.rope_factors is not Presence.NEVER:
        assert T.ROPE_FREQS in tensors


@pytest.mark.parametrize("name", ["mamba", "LLAMA", "llama ", ""])
def test_unknown_architecture_is_named_and_the_known_are_listed(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"these are: llama, qwen2, qwen3") as caught:
        find_architecture(name)
    assert repr(name) in str(caught.value)
