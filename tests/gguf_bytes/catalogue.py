"""All damaged files, by name."""

from __future__ import annotations

from gguf_bytes.case import Case
from gguf_bytes.malformed_header import header_cases
from gguf_bytes.malformed_model import model_cases
from gguf_bytes.malformed_tensors import tensor_cases


def catalogue() -> list[Case]:
    return [*header_cases(), *tensor_cases(), *model_cases()]
