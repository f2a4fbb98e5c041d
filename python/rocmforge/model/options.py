"""What a caller may choose when a model is loaded."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from rocmforge.errors import InvalidArgumentError

Activations = Literal["auto", "float"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load. None means: decide from the machine and the model."""

    device: str = "auto"
    threads: int | None = None
    max_model_len: int | None = None  # tokens of one sequence, prompt and output
    gpu_layers: int | None = None
    require_gpu: bool = False
    kv_dtype: str = "f16"  # or bf16, q8_0 (heads of a multiple of 32), f32
    memory_fraction: float | None = None  # of free memory: for the cache; on a GPU, for all
    block_size: int = 16  # tokens of a KV block
    num_blocks: int | None = None  # of the KV cache, instead of what memory_fraction gives
    max_num_seqs: int = 64
    max_num_tokens: int = 512  # of one step; more where whole sequences have to fit
    long_steps: bool = False  # a large GPU may take steps of more tokens than that
    deterministic: bool = False
    activations: Activations = "auto"

    def __post_init__(self) -> None:
        check_types(self)


def check_types(options: Any) -> None:
    """Raises InvalidArgumentError for a field of a dataclass that is not of its type."""
    for field in fields(options):
        value = getattr(options, field.name)
        kind, _, none = str(field.type).partition(" | ")
        fits, must = _KINDS[kind]
        if not (fits(value) or (none and value is None)):
            msg = f"{field.name} is {value!r}; it must be {must}{' or None' * bool(none)}"
            raise InvalidArgumentError(msg)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_KINDS: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "str": (_is_text, "a string"),
    "Activations": (_is_text, "a string"),
    "bool": (lambda value: isinstance(value, bool), "True or False"),
    "int": (lambda v: hasattr(v, "__index__") and not isinstance(v, bool), "an integer"),
    "float": (lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool), "a number"),
}
