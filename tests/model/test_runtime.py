"""One sequence, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decoder_steps import teacher_forced

from reference.tiny_models import write_tiny_model
from rocmforge import InvalidArgumentError, ModelRuntime
from rocmforge.model.options import LoadOptions

IDS = [7, 3, 500, 11, 2, 90, 33]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.gguf", "llama", "Q8_0")


@pytest.mark.parametrize("device", ["cpu", "host:0"])
def test_steps_give_the_logits_of_teacher_forcing(path: Path, device: str) -> None:
    options = LoadOptions(device=device, threads=1, max_num_seqs=1, deterministic=True)
    wanted = teacher_forced(path, IDS, device=device, deterministic=True)
    runtime = ModelRuntime(path, options)
    for _ in range(2):
        np.testing.assert_array_equal(runtime.extend(IDS[:4]), wanted[3])
        for i in (4, 5, 6):
            np.testing.assert_array_equal(runtime.decode_step(IDS[i]), wanted[i])
        assert runtime.position == 7
        runtime.reset()


def test_a_long_prompt_takes_several_steps(path: Path) -> None:
    options = LoadOptions(
        device="cpu", threads=1, max_num_seqs=1, max_num_tokens=3, deterministic=True
    )
    wanted = teacher_forced(path, IDS, deterministic=True)
    np.testing.assert_array_equal(ModelRuntime(path, options).extend(IDS), wanted[-1])


def test_the_end_of_the_context_and_ids_that_are_none_are_refused(path: Path) -> None:
    options = LoadOptions(device="cpu", threads=1, max_num_seqs=1, max_model_len=4)
    runtime = ModelRuntime(path, options)
    runtime.extend([1, 2, 3])
    with pytest.raises(InvalidArgumentError, match=r"2 tokens after 3: .* the context has 4"):
        runtime.extend([1, 2])
    with pytest.raises(InvalidArgumentError, match="0 tokens"):
        runtime.extend([])
    with pytest.raises(InvalidArgumentError, match="token id 9999"):
        runtime.decode_step(9999)
    assert runtime.position == 3
    assert runtime.decode_step(4).shape == (runtime.config.vocab_size,)
    assert [layer.part.name for layer in runtime.plan.layers] == ["layer 0", "layer 1"]
