"""Tokenizers built from GGUF metadata, detokenizing as tokens come, and chat templates."""

from __future__ import annotations

from rocmforge.tokenizer.chat_template import ChatTemplate
from rocmforge.tokenizer.detokenizer import IncrementalDetokenizer
from rocmforge.tokenizer.pre_tokenizer_table import known as pre_tokenizers
from rocmforge.tokenizer.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "IncrementalDetokenizer", "Tokenizer", "pre_tokenizers"]
