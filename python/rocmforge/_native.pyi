"""Types of the native module (native/bindings). Names without an entry are untyped."""

from typing import Any

FORMATS: dict[str, tuple[int, int, int]]
"""Weight formats with kernels: name to (GGUF id, weights per block, bytes per block)."""

def __getattr__(name: str) -> Any: ...
