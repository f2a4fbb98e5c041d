"""Asks llama.cpp which formats it gives the files of mix_cases.py and writes them down.

    python -m pip install llama-cpp-python gguf
    cd tests && python -m reference.record_mixes

With an importance matrix the rules of some types differ; those are not recorded, as the library
takes one from C++ only.
"""

from __future__ import annotations

import ctypes
import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp

from reference.mix_cases import CASES, compact

RECORD = Path(__file__).with_name("peer_mixes.json")
TYPES = [
    t.name for t in gguf.LlamaFileType if t.name not in ("GUESSED", "MOSTLY_Q1_0", "MOSTLY_NVFP4")
]
NEEDS_IMPORTANCE = ("IQ1", "IQ2", "IQ3_XXS", "IQ3_XS", "Q2_K_S")


def main() -> None:
    record: dict[str, dict[str, dict[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            source, target = Path(folder) / "source.gguf", Path(folder) / "target.gguf"
            source.write_bytes(case.build())
            record[name] = {}
            for file_type in TYPES:
                short = file_type.removeprefix("MOSTLY_").removeprefix("ALL_")
                if not short.startswith(NEEDS_IMPORTANCE):
                    quantize(source, target, int(gguf.LlamaFileType[file_type]))
                    tensors = gguf.GGUFReader(target).tensors
                    record[name][short] = compact((t.name, t.tensor_type.name) for t in tensors)
    content = {"llama-cpp-python": llama_cpp.__version__, "mixes": record}
    RECORD.write_text(json.dumps(content, indent=1) + "\n")


def quantize(source: Path, target: Path, file_type: int) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    failed = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if failed:
        msg = f"llama.cpp refuses type {file_type} for {source}"
        raise RuntimeError(msg)


if __name__ == "__main__":
    main()
