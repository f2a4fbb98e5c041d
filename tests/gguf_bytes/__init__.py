"""GGUF files byte by byte, valid or not, written without the code they test."""

from __future__ import annotations
