"""Where context stores lie: a folder with one file for each owner."""

from __future__ import annotations

import os
from pathlib import Path


def default_folder() -> Path:
    """`ROCMFORGE_CONTEXT_DIR`, or the user's data folder."""
    if folder := os.environ.get("ROCMFORGE_CONTEXT_DIR"):
        return Path(folder)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "rocmforge" / "context"


def file_of(folder: Path, owner: str = "") -> Path:
    """`owner` is a name that the server has made of a key; without one, it is everybody."""
    return folder / f"{owner or 'default'}.db"
