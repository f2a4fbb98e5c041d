"""A GGUF model file, possibly in several parts: checked metadata, tensor table, mapped data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import final

import numpy as np
import numpy.typing as npt

from rocmforge.errors import InvalidArgumentError, ModelFileError, OutOfMemoryError
from rocmforge.gguf.header import MAX_TENSORS, read_header
from rocmforge.gguf.mapped_file import MappedFile
from rocmforge.gguf.metadata import Metadata
from rocmforge.gguf.splits import check_part, part_paths
from rocmforge.gguf.tensor_names import canonical_names
from rocmforge.gguf.tensors import TensorInfo, locate_tensors

DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 16


@final
class GGUFFile:
    """Everything is checked in `open`; an instance describes a file that can be trusted in form.

    `metadata`, `version` and `alignment` are the first part's. `tensors` spans all parts, in the
    order of the headers, by llama.cpp's names. `size_bytes` is the sum over the `num_files` parts.
    """

    def __init__(self, parts: list[MappedFile]) -> None:
        """Takes ownership of the opened first part; use `GGUFFile.open`."""
        self._parts = parts
        self.path = parts[0].path
        self.version, self.alignment, self.metadata, tensors = _read_part(parts[0])
        paths = part_paths(self.path, self.metadata)
        self._part_of = {tensor.name: parts[0] for tensor in tensors}
        for index, path in enumerate(paths[1:], start=1):
            part = MappedFile(path)
            parts.append(part)
            _, _, metadata, more = _read_part(part)
            check_part(metadata, index, len(paths))
            for tensor in more:
                if tensor.name in self._part_of:
                    msg = f"{path}: a tensor name occurs in two parts"
                    raise ModelFileError(msg, offset=tensor.offset, key=tensor.name)
                self._part_of[tensor.name] = part
            tensors += more
        if len(paths) > 1:
            claimed = self.metadata.uint("split.tensors.count", maximum=MAX_TENSORS)
            if claimed != len(tensors):
                message = f"the parts hold {len(tensors)} tensors, not {claimed}"
                self.metadata.fail("split.tensors.count", message)
        tensors = self._renamed(tensors)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType({t.name: t for t in tensors})
        self.size_bytes = sum(part.size for part in parts)
        self.num_files = len(parts)

    def _renamed(self, tensors: list[TensorInfo]) -> list[TensorInfo]:
        """By llama.cpp's names, where the file has those of Hugging Face."""
        names = canonical_names(self.metadata, self._part_of)
        if not names:
            return tensors
        known = [replace(t, name=names.get(t.name, t.name)) for t in tensors]
        part_of = {new.name: self._part_of[t.name] for t, new in zip(tensors, known, strict=True)}
        if len(part_of) < len(known):
            ((name, _),) = Counter(t.name for t in known).most_common(1)
            msg = f"{self.path}: two tensors have names that mean {name}"
            raise ModelFileError(msg, key=name)
        self._part_of = part_of
        return known

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GGUFFile:
        """Opens and checks a model file and, if it is the first of several, the others.

        Raises InvalidArgumentError for a path that cannot be a model, ModelFileError for a file
        that is damaged or of another kind.
        """
        parts: list[MappedFile] = []
        try:
            parts.append(MappedFile(Path(path)))
            return cls(parts)
        except BaseException as error:
            for part in parts:
                part.close()
            if isinstance(error, MemoryError) and not isinstance(error, OutOfMemoryError):
                msg = f"{path}: not enough memory to read the metadata"
                raise OutOfMemoryError(msg) from error
            raise

    def tensor_data(self, name: str) -> npt.NDArray[np.uint8]:
        """The bytes of a tensor as a read-only view of the mapping, 1-D [nbytes], not copied.

        Raises ModelFileError if the file has been changed since it was opened. A view taken before
        stays mapped after `close`.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            msg = f"{self.path} has no tensor {name!r}"
            raise InvalidArgumentError(msg)
        return self._part_of[name].view(tensor.offset, tensor.nbytes)

    def tensor_place(self, name: str) -> tuple[int, int]:
        """(descriptor, offset) of a tensor's bytes; the descriptor is open until close()."""
        return self._part_of[name].descriptor, self.tensors[name].offset

    def close(self) -> None:
        """Lets go of the files; metadata and tensor descriptions stay usable."""
        for part in self._parts:
            part.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _read_part(part: MappedFile) -> tuple[int, int, Metadata, list[TensorInfo]]:
    header = read_header(part)
    metadata = Metadata(part.path, header.pairs, header.data)
    alignment = _alignment(metadata)
    tensors = locate_tensors(part.path, header.tensors, header.end, alignment, part.size)
    return header.version, alignment, metadata, tensors


def _alignment(metadata: Metadata) -> int:
    key = "general.alignment"
    if key not in metadata:
        return DEFAULT_ALIGNMENT
    if metadata.type_name(key) != "u32":
        metadata.fail(key, f"the alignment is {metadata.type_name(key)}, not u32")
    alignment = metadata.uint(key, minimum=1, maximum=MAX_ALIGNMENT)
    if alignment & (alignment - 1):
        metadata.fail(key, f"alignment {alignment} is not a power of two")
    return alignment
