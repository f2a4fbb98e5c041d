"""Says what a file is that is not a GGUF file, from its first bytes."""

from __future__ import annotations

_MAGICS = (
    (b"FUGG", "a GGUF file with its bytes swapped"),
    (b"lmgg", "an unversioned ggml model of 2023; convert the original weights to GGUF"),
    (b"fmgg", "a ggmf model of 2023; convert the original weights to GGUF"),
    (b"tjgg", "a ggjt model of 2023; convert the original weights to GGUF"),
    (b"algg", "a ggla adapter of 2023; convert the original weights to GGUF"),
    (b"ggml", "an old ggml model; convert the original weights to GGUF"),
    (b"PK\x03\x04", "a zip archive, as PyTorch checkpoints are; convert it to GGUF"),
    (b"\x80\x02", "a Python pickle, as old PyTorch checkpoints are; convert it to GGUF"),
    (b"\x80\x04", "a Python pickle, as old PyTorch checkpoints are; convert it to GGUF"),
    (b"\x89HDF", "an HDF5 file, as Keras checkpoints are; convert it to GGUF"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"\x7fELF", "an ELF program"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"<!DOCTYPE", "an HTML page, perhaps the error page of a failed download"),
    (b"<html", "an HTML page, perhaps the error page of a failed download"),
)


def describe(head: bytes, size: int) -> str:
    """What a file of `size` bytes that starts with `head` (a few hundred bytes) looks like."""
    for magic, meaning in _MAGICS:
        if head.startswith(magic):
            return meaning
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "a Hugging Face safetensors file; convert it to GGUF"
    if not head.strip(b"\0"):
        return "nothing but zeros, perhaps an unfinished download"
    if _is_text(head):
        return "a JSON file" if head.lstrip()[:1] in (b"{", b"[") else "a text file"
    return f"unknown data (it starts with {head[:4].hex(' ')})"


def _is_text(head: bytes) -> bool:
    # The last character of the sample may be cut.
    text = head.decode("utf-8", errors="ignore")
    return len(text.encode()) > len(head) - 4 and all(c.isprintable() or c.isspace() for c in text)
