"""A model file in other weight formats: everything but the weights is copied byte for byte."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.errors import InvalidArgumentError, ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile, GGUFWriter, NewTensor, TensorInfo
from rocmforge.gguf.values import ValueType, raw_scalar
from rocmforge.model.host import default_threads
from rocmforge.model.importance import Importance
from rocmforge.model.quantization_mix import Mix
from rocmforge.model.quantization_types import FLOATS, type_named

_PIECE = 1 << 21  # weights of a call: some 0.1 s, after which Ctrl-C is heard
_QUANTIZATION_VERSION = 2  # of ggml's block layouts


class QuantizeProgress:
    """How far it is, for another thread to look at."""

    def __init__(self) -> None:
        self.done = 0  # weights
        self.total = 0

    def text(self) -> str:
        return f"{self.done / self.total:.0%}" if self.total else ""


@dataclass(frozen=True, slots=True)
class QuantizePlan:
    """What a file will hold; `size_bytes` is exact."""

    type_name: str
    size_bytes: int
    source_bytes: int
    num_weights: int
    bytes_by_format: dict[str, int]
    requantized: tuple[str, ...]  # tensors whose weights have been rounded before
    unweighted: tuple[str, ...]  # tensors that the importance matrix does not know

    @property
    def bits_per_weight(self) -> float:
        return 8 * sum(self.bytes_by_format.values()) / self.num_weights


@dataclass(slots=True)
class Quantization:
    """A file opened and what is to become of it; `write` may be called once."""

    file: GGUFFile
    type_name: str
    importance: Importance | None = None
    pure: bool = False
    progress: QuantizeProgress = field(default_factory=QuantizeProgress)

    def plan(self) -> QuantizePlan:
        tensors = self._tensors()
        writer = self._writer(Path("unused"), tensors)
        pairs = list(zip(self.file.tensors.values(), tensors, strict=True))
        sizes: Counter[str] = Counter()
        for tensor in tensors:
            sizes[tensor.type.name] += tensor.nbytes
        changed = [(old, new) for old, new in pairs if old.type is not new.type]
        known = self.importance
        return QuantizePlan(
            type_name=type_named(self.type_name)[0],
            size_bytes=writer.size_bytes,
            source_bytes=self.file.size_bytes,
            num_weights=sum(tensor.num_elements for tensor in tensors),
            bytes_by_format=dict(sizes.most_common()),
            requantized=tuple(old.name for old, _ in changed if old.type.name not in FLOATS),
            unweighted=tuple(
                new.name
                for _, new in changed
                if known is not None and new.type.name not in FLOATS and new.name not in known
            ),
        )

    def write(self, path: str | os.PathLike[str], threads: int | None = None) -> float:
        """Writes the file and returns the seconds it took.

        Raises ModelFileError for weights that are no numbers or too large for the format, and for
        an importance matrix of another model; UnsupportedError for formats that are not known.
        """
        start = time.perf_counter()
        self._refuse_itself(Path(path))
        tensors = self._tensors()
        self.progress.total = sum(tensor.num_elements for tensor in tensors)
        quantizer = _native.Quantizer(default_threads() if threads is None else threads)
        with self._writer(Path(path), tensors) as writer:
            for old, new in zip(self.file.tensors.values(), tensors, strict=True):
                if old.type is new.type:
                    self._copy(old, writer)
                else:
                    self._convert(quantizer, old, new, writer)
        return time.perf_counter() - start

    def _tensors(self) -> list[NewTensor]:
        has_importance = self.importance is not None
        chosen = type_named(self.type_name)[1]
        mix = Mix(self.file, chosen, has_importance=has_importance, pure=self.pure)
        tensors = []
        for tensor in self.file.tensors.values():
            new = NewTensor(tensor.name, mix.format_of(tensor), tensor.shape)
            readable = [*_native.FORMATS, *_native.STORED_FORMATS]
            if new.type is not tensor.type and tensor.type.name not in readable:
                known = ", ".join(readable)
                msg = f"{tensor.name} is {tensor.type.name}; readable formats are {known}"
                raise UnsupportedError(msg)
            tensors.append(new)
        return tensors

    def _writer(self, path: Path, tensors: list[NewTensor]) -> GGUFWriter:
        metadata = self.file.metadata
        pairs = {key: metadata.raw(key) for key in metadata if not key.startswith("split.")}
        file_type = type_named(self.type_name)[1].file_type
        pairs["general.file_type"] = raw_scalar(ValueType.U32, file_type)
        pairs["general.quantization_version"] = raw_scalar(ValueType.U32, _QUANTIZATION_VERSION)
        if self.importance is not None:
            count = raw_scalar(ValueType.I32, len(self.importance))
            pairs["quantize.imatrix.entries_count"] = count
        return GGUFWriter(path, pairs, tensors, self.file.alignment)

    def _refuse_itself(self, path: Path) -> None:
        sources = {tensor.file for tensor in self.file.tensors.values()} | {self.file.path}
        if path.exists() and any(path.samefile(source) for source in sources):
            msg = f"{path} is the file that is read; name another one to write"
            raise InvalidArgumentError(msg)

    def _copy(self, tensor: TensorInfo, writer: GGUFWriter) -> None:
        data = self.file.tensor_data(tensor.name)
        for begin in range(0, len(data), _PIECE):
            writer.write(data[begin : begin + _PIECE])
        self.progress.done += tensor.num_elements

    def _convert(
        self, quantizer: _native.Quantizer, old: TensorInfo, new: NewTensor, writer: GGUFWriter
    ) -> None:
        columns = old.shape[0]
        rows = self.file.tensor_data(old.name).reshape(old.num_elements // columns, -1)
        importance = self._importance_of(new)
        per_expert = len(rows) // len(importance) if importance is not None else len(rows)
        step = max(1, _PIECE // columns)
        for expert_begin in range(0, len(rows), per_expert):
            known = None if importance is None else importance[expert_begin // per_expert]
            for begin in range(expert_begin, expert_begin + per_expert, step):
                piece = rows[begin : min(begin + step, expert_begin + per_expert)]
                try:
                    data = quantizer.convert(old.type.name, piece, new.type.name, known)
                except ModelFileError as error:
                    msg = f"{self.file.path}: {error}"
                    raise ModelFileError(msg, key=old.name) from error
                writer.write(data.reshape(-1))
                self.progress.done += len(piece) * columns

    def _importance_of(self, tensor: NewTensor) -> npt.NDArray[np.float32] | None:
        """(experts or 1, columns); None where nothing is known."""
        if self.importance is None or tensor.name not in self.importance:
            return None
        values = self.importance[tensor.name].reshape(-1)
        experts = tensor.shape[2] if len(tensor.shape) > 2 else 1
        for count in (experts, 1):
            if values.size == count * tensor.shape[0]:
                return values.reshape(count, -1)
        msg = (
            f"the importance matrix has {values.size} values for the tensor, which has "
            f"{tensor.shape[0]} columns and {experts} experts; it is another model's"
        )
        raise ModelFileError(msg, key=tensor.name)
