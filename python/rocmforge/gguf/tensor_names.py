"""The names of tensors that a file has from Hugging Face, in llama.cpp's words.

The tables are those of the `gguf` package, which llama.cpp's converters use. Names are all that is
translated: what a tensor holds is taken to be what the converters write, such as the order of rows
in the query and key matrices of Llama.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from rocmforge.gguf.metadata import Metadata

_ARCHITECTURE: Final = "general.architecture"
EMBEDDING: Final = "token_embd.weight"
_SUFFIXES: Final = (".weight", ".bias")
_LAYER: Final = re.compile(r"\.(?P<number>[0-9]{1,9})\.")


def canonical_names(metadata: Metadata, names: Iterable[str]) -> dict[str, str]:
    """For each name that has another one in llama.cpp's words, that one.

    Empty for files with llama.cpp's own names, and for those that are not understood.
    """
    names = list(names)
    if not names or EMBEDDING in names or not isinstance(metadata.get(_ARCHITECTURE), str):
        return {}
    # 0.1 s that only such files are to cost.
    import gguf

    architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    architecture = architectures.get(metadata.string(_ARCHITECTURE))
    if architecture is None:
        return {}
    # Of one layer: the table of all would be as long as the file says that there are layers.
    table = gguf.get_tensor_name_map(architecture, 1)
    found = {}
    for name in names:
        layer = _LAYER.search(name)
        first = name if layer is None else _LAYER.sub(".0.", name, count=1)
        known = table.get_name(first, try_suffixes=_SUFFIXES)
        if known is not None and layer is not None:
            known = known.replace("blk.0.", f"blk.{int(layer['number'])}.", 1)
        if known is not None:
            found[name] = known
    return found if EMBEDDING in found.values() else {}
