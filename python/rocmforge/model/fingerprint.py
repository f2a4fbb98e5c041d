"""What keys and values depend on: which model, and how it is run. Two loads with one fingerprint
can exchange the blocks of their caches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rocmforge import _native
from rocmforge.gguf import GGUFFile, TensorInfo
from rocmforge.model.config import ModelConfig
from rocmforge.model.execution_plan import ExecutionPlan
from rocmforge.model.options import LoadOptions

# Weights are told apart by samples: all of them would take seconds to read.
_SAMPLE_BYTES = 64


def fingerprint(
    file: GGUFFile, config: ModelConfig, plan: ExecutionPlan, options: LoadOptions
) -> bytes:
    """[32] SHA-256 over the configuration, samples of every tensor, options, and where layers run.

    `file` may have been closed.
    """
    facts = {
        "version": _native.BUILD.version,
        "config": repr(replace(config, name="")),  # which may be the file's path
        "tensors": [(t.name, t.type.name, t.shape) for t in file.tensors.values()],
        # Which of two sets of rotations is used depends on it.
        "context": plan.cache.max_model_len if config.rope.has_long_factors else None,
        "kv_dtype": options.kv_dtype,
        "block_size": options.block_size,
        "activations": options.activations,
        "deterministic": options.deterministic,
        "devices": [part.device.partition(":")[0] for part in plan.parts],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    _add_samples(digest, file.tensors.values())
    return digest.digest()


def _add_samples(digest: hashlib._Hash, tensors: Iterable[TensorInfo]) -> None:
    """The first bytes of every tensor, and those in its middle."""
    files: dict[Path, int] = {}
    try:
        for tensor in tensors:
            if tensor.file not in files:
                files[tensor.file] = os.open(tensor.file, os.O_RDONLY | os.O_CLOEXEC)
            for at in (tensor.offset, tensor.offset + tensor.nbytes // 2):
                digest.update(os.pread(files[tensor.file], _SAMPLE_BYTES, at))
    finally:
        for fd in files.values():
            os.close(fd)
