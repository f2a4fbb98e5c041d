"""Embedding models as ONNX files, run by onnxruntime on the CPU: an optional extra.

The file has to take `input_ids` (and `attention_mask`, `token_type_ids` if it likes) and give hidden
states [texts, tokens, dim] or embeddings [texts, dim], as the hub's exports do. Beside it, or in the
folder above, lie tokenizer.json and, if they were exported too, config.json (`max_position_embeddings`)
and 1_Pooling/config.json (mean without it).
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from rocmforge.errors import InvalidArgumentError, ModelFileError, UnsupportedError

Pooling: TypeAlias = Literal["mean", "cls", "last"]

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_BATCH: Final = 32  # texts at once
_MAX_CONFIG_BYTES: Final = 1 << 20
_MAX_TOKENIZER_BYTES: Final = 256 << 20


class OnnxEmbedder:
    """`embed` may be called from any thread."""

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        """Raises UnsupportedError without onnxruntime or for a model of another kind,
        ModelFileError for a damaged file, InvalidArgumentError for one that is not there."""
        runtime = _runtime()
        self.path = Path(path)
        if not self.path.is_file():
            msg = f"{self.path} is no file"
            raise InvalidArgumentError(msg)
        self._failures = _failures(runtime)
        self._tokenizer = _tokenizer(self.path)
        self.pooling = _pooling(self.path)
        self.max_tokens = _max_tokens(self.path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 4  # what is wrong is told by exceptions
        try:
            self._session = runtime.InferenceSession(
                os.fspath(self.path), options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            msg = f"{self.path}: onnxruntime cannot load it: {error}"
            raise ModelFileError(msg) from error
        names = [given.name for given in self._session.get_inputs()]
        if "input_ids" not in names or not set(names) <= set(_INPUTS):
            msg = (
                f"{self.path} takes {', '.join(names)}; embedding models take input_ids, "
                "attention_mask and token_type_ids"
            )
            raise UnsupportedError(msg)
        self._inputs = names

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """[len(texts), dim], each of length 1.

        Raises InvalidArgumentError for no texts or one of too many tokens.
        """
        if not texts or isinstance(texts, str):
            msg = "texts is to be a list of at least one text"
            raise InvalidArgumentError(msg)
        ids = [self._encode(text) for text in texts]
        groups = [self._run(ids[i : i + _BATCH]) for i in range(0, len(ids), _BATCH)]
        rows = np.concatenate(groups)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.where(length == 0, 1, length)).astype(np.float32)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        if not ids or (self.max_tokens is not None and len(ids) > self.max_tokens):
            msg = f"a text has {len(ids)} tokens; the model takes 1 to {self.max_tokens}"
            raise InvalidArgumentError(msg)
        return ids

    def _run(self, ids: list[list[int]]) -> npt.NDArray[np.float64]:
        """[len(ids), dim] before they are normalised."""
        width = max(map(len, ids))
        values = {name: np.zeros((len(ids), width), np.int64) for name in _INPUTS}
        for row, tokens in enumerate(ids):
            values["input_ids"][row, : len(tokens)] = tokens
            values["attention_mask"][row, : len(tokens)] = 1
        given = {name: values[name] for name in self._inputs}
        try:
            outputs = self._session.run(None, given)
        except self._failures as error:
            msg = f"{self.path}: onnxruntime cannot run it: {error}"
            raise ModelFileError(msg) from error
        named = dict(zip((o.name for o in self._session.get_outputs()), outputs, strict=True))
        output = np.asarray(named.get("sentence_embedding", outputs[0]), np.float64)
        if output.ndim == 2 and len(output) == len(ids):
            return output
        if output.shape[:2] != (len(ids), width) or output.ndim != 3:
            msg = f"{self.path} gives {output.shape}; hidden states are [texts, tokens, dim]"
            raise UnsupportedError(msg)
        return _pooled(output, values["attention_mask"], self.pooling)


def _pooled(
    hidden: npt.NDArray[np.float64], mask: npt.NDArray[np.int64], pooling: Pooling
) -> npt.NDArray[np.float64]:
    counts = mask.sum(axis=1)
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        last: npt.NDArray[np.float64] = hidden[np.arange(len(hidden)), counts - 1]
        return last
    # Padding may hold anything, infinities included.
    total = np.where(mask[:, :, None] == 1, hidden, 0.0).sum(axis=1)
    mean: npt.NDArray[np.float64] = total / counts[:, None]
    return mean


def _runtime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        msg = "ONNX models need onnxruntime: pip install rocmforge[onnx]"
        raise UnsupportedError(msg) from None


def _failures(runtime: Any) -> tuple[type[Exception], ...]:
    """Its exceptions have no base of their own."""
    found = vars(runtime.capi.onnxruntime_pybind11_state).values()
    return tuple(f for f in found if isinstance(f, type) and issubclass(f, Exception))


def _beside(path: Path, name: str, most: int) -> str | None:
    """The text of a file beside the model, or in the folder above."""
    for folder in (path.parent, path.parent.parent):
        file = folder / name
        if file.is_file():
            if file.stat().st_size > most:
                msg = f"{file} has more than {most} bytes"
                raise ModelFileError(msg)
            try:
                return file.read_text("utf-8")
            except UnicodeDecodeError:
                msg = f"{file} is no UTF-8"
                raise ModelFileError(msg) from None
    return None


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    text = _beside(path, "tokenizer.json", _MAX_TOKENIZER_BYTES)
    if text is None:
        msg = f"{path}: there is no tokenizer.json beside it"
        raise UnsupportedError(msg)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # all that the library raises
        msg = f"{path}: its tokenizer.json cannot be read: {error}"
        raise ModelFileError(msg) from error
    tokenizer.no_truncation()  # nothing of a text is left out unsaid
    tokenizer.no_padding()
    return tokenizer


def _config(path: Path, name: str) -> dict[str, Any]:
    text = _beside(path, name, _MAX_CONFIG_BYTES)
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        msg = f"{path}: its {name} is no JSON object"
        raise ModelFileError(msg)
    return config


def _max_tokens(path: Path) -> int | None:
    most = _config(path, "config.json").get("max_position_embeddings")
    return most if isinstance(most, int) and most > 0 else None


def _pooling(path: Path) -> Pooling:
    config = _config(path, "1_Pooling/config.json")
    kinds: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    modes = [key for key, value in config.items() if key.startswith("pooling_mode") and value]
    if not modes:
        return "mean"
    if len(modes) > 1 or modes[0] not in kinds:
        msg = f"{path}: its pooling is {', '.join(modes)}; one of {', '.join(kinds)} is known"
        raise UnsupportedError(msg)
    return kinds[modes[0]]
