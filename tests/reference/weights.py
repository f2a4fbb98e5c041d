"""The tensors of a file as float64, and the steps that are one tensor each."""

from __future__ import annotations

import numpy as np
from gguf import GGUFReader

from reference.blocks import decode


class Weights:
    def __init__(self, reader: GGUFReader, *, layer_norm: bool, epsilon: float) -> None:
        self.tensors = {
            tensor.name: decode(tensor.data, tensor.tensor_type) for tensor in reader.tensors
        }
        self.tensors.setdefault("output.weight", self.tensors["token_embd.weight"])
        self._layer_norm = layer_norm
        self._epsilon = epsilon

    def __contains__(self, name: str) -> bool:
        return f"{name}.weight" in self.tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[f"{name}.weight"]

    def bias(self, name: str) -> np.ndarray | float:
        return self.tensors.get(f"{name}.bias", 0.0)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self[name].T + self.bias(name)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        """Over the last axis; x itself where the file has no such norm."""
        if name not in self:
            return x
        if self._layer_norm:
            x = x - x.mean(axis=-1, keepdims=True)
        return self._scaled(x) * self[name] + self.bias(name)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self._epsilon)
