"""The context store: documents, their chunks with vectors and words, and links between them, in
one SQLite file. Vectors are made by the caller."""

from __future__ import annotations

from rocmforge.context.chunking import chunked
from rocmforge.context.prompt import as_prompt
from rocmforge.context.store import ContextStore
from rocmforge.context.values import DocumentInfo, Hit, Quotas, Search, StoreInfo

__all__ = [
    "ContextStore",
    "DocumentInfo",
    "Hit",
    "Quotas",
    "Search",
    "StoreInfo",
    "as_prompt",
    "chunked",
]
