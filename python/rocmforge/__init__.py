"""LLM inference from GGUF files, on AMD GPUs and any CPU."""

from __future__ import annotations
