"""What LLM and AsyncLLM share: loading, and what a loaded model tells of itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rocmforge.engine.arguments import (
    Messages,
    Prompt,
    conversation_list,
    params_list,
    prompt_list,
)
from rocmforge.engine.config import EngineConfig
from rocmforge.engine.output import TextAssembler
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.session import Session
from rocmforge.engine.stats import EngineStats
from rocmforge.model.load_progress import LoadProgress
from rocmforge.model.options import Activations
from rocmforge.model.pooling import Pooling
from rocmforge.tokenizer import Tokenizer


class BaseLLM:
    """Loads a model and keeps an engine running on it until close().

    `model` is the path of a .gguf file, the name of a pulled model (owner/repo[:file]), or None for
    the small story model of the package; the other arguments are those of `EngineConfig`;
    `progress` can be watched from another thread while the model is loaded. Raises ModelFileError for a damaged file,
    UnsupportedError for one this build cannot run, OutOfMemoryError and InvalidArgumentError.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        threads: int | None = None,
        max_model_len: int | None = None,
        gpu_layers: int | None = None,
        require_gpu: bool = False,
        kv_dtype: str = "f16",
        memory_fraction: float | None = None,
        block_size: int = 16,
        max_num_seqs: int = 64,
        deterministic: bool = False,
        activations: Activations = "auto",
        progress: LoadProgress | None = None,
    ) -> None:
        config = EngineConfig(
            device=device,
            threads=threads,
            max_model_len=max_model_len,
            gpu_layers=gpu_layers,
            require_gpu=require_gpu,
            kv_dtype=kv_dtype,
            memory_fraction=memory_fraction,
            block_size=block_size,
            max_num_seqs=max_num_seqs,
            deterministic=deterministic,
            activations=activations,
        )
        self._session = Session.load(model, config, progress)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._session.tokenizer

    @property
    def name(self) -> str:
        """The file's name."""
        return self._session.name

    @property
    def device(self) -> str:
        """What it runs on; several joined by "+"."""
        return self._session.device

    @property
    def load_s(self) -> float:
        """Seconds that loading took."""
        return self._session.load_s

    @property
    def max_model_len(self) -> int:
        """Most tokens of a sequence, prompt and output."""
        return self._session.max_model_len

    @property
    def can_generate(self) -> bool:
        """False for a model that makes embeddings alone."""
        return self._session.is_causal

    @property
    def pooling(self) -> Pooling:
        """How embed() makes one vector of a text's tokens."""
        return self._session.pooling

    def placement(self) -> list[tuple[str, str, str]]:
        """(part of the model, device, reason) for every part."""
        return list(self._session.placement)

    def stats(self) -> EngineStats:
        return self._session.host.stats()

    def _generations(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
    ) -> list[TextAssembler]:
        requests = prompt_list(prompts)
        settings = params_list(params, len(requests))
        return [
            self._session.generation(prompt, setting)
            for prompt, setting in zip(requests, settings, strict=True)
        ]

    def _chat_prompts(self, messages: Messages | Sequence[Messages], tools: Any) -> list[Prompt]:
        return [self._session.encode_chat(c, tools) for c in conversation_list(messages)]
