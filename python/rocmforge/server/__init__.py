"""The HTTP server: OpenAI's API, and ROCmForge's own beside it."""

from __future__ import annotations

from rocmforge.server.server import InferenceServer
from rocmforge.server.settings import ServerSettings

__all__ = ["InferenceServer", "ServerSettings"]
