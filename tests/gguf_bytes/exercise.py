"""Uses everything a file offers, as a program that trusts the reader would."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model import ModelConfig, check_tensors, rope_frequencies

# What a damaged regular file may end in; InvalidArgumentError is for another part of a split.
REFUSALS = (ModelFileError, UnsupportedError)


def exercise(path: Path) -> bool:
    """True if the file is a model; typed refusals of single values count as use of the file."""
    try:
        file = GGUFFile.open(path)
    except REFUSALS:
        return False
    with file:
        for key in file.metadata:
            _use_value(file, key)
        for name, tensor in file.tensors.items():
            data = file.tensor_data(name)
            assert data.nbytes == tensor.nbytes > 0
            assert not data.flags.writeable
            # The last page of the range is there: a short file would end the process here.
            assert int(data[-1]) >= 0
        try:
            config = ModelConfig.from_gguf(file)
            check_tensors(file, config)
            assert rope_frequencies(file, config.rope, config.context_length).shape == (
                config.rope.rotary_dim // 2,
            )
        except REFUSALS:
            return False
    return True


def _use_value(file: GGUFFile, key: str) -> None:
    metadata = file.metadata
    value = metadata[key]
    kind = metadata.type_name(key)
    getters = [metadata.strings, metadata.byte_strings, metadata.ints, metadata.floats]
    if not metadata.is_array(key):
        getters = [metadata.uint, metadata.float, metadata.bool, metadata.string]
    else:
        assert metadata.count(key) == len(value), (key, kind)
    for getter in getters:
        with contextlib.suppress(ModelFileError):
            getter(key)
