"""Where pulled models lie: <root>/<owner>/<repo>/<file>. A file has its name only once its checksum
has been found right."""

from __future__ import annotations

import os
from pathlib import Path

from rocmforge.errors import InvalidArgumentError
from rocmforge.hub.names import ModelName, choose, is_name, is_safe, parse


def root() -> Path:
    """`ROCMFORGE_MODELS`, or the user's cache folder."""
    if folder := os.environ.get("ROCMFORGE_MODELS"):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "rocmforge" / "models"


def place(name: ModelName, file: str, folder: Path | None = None) -> Path:
    """The path of a file. Raises InvalidArgumentError if that would leave the model's folder."""
    folder = (folder or root()) / name.owner / name.repo
    path = folder / file
    if not is_safe(file) or not path.resolve().is_relative_to(folder.resolve()):
        msg = f"{name}: the repository has a file {file!r}, which is no name to write to"
        raise InvalidArgumentError(msg)
    return path


def pulled(name: ModelName, folder: Path | None = None) -> Path | None:
    """A pulled model's first file; None if nothing of the repository has been pulled.

    Raises InvalidArgumentError if what has been pulled is another file, or several.
    """
    base = (folder or root()) / name.owner / name.repo
    files = [path.relative_to(base).as_posix() for path in base.rglob("*.gguf") if path.is_file()]
    return base / choose(name, files)[0] if files else None


def located(model: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The path of a model given by its path or its name.

    Raises InvalidArgumentError for what is neither, and for a name that has not been pulled.
    """
    if not isinstance(model, str | os.PathLike):
        msg = f"model is {model!r}; it must be the path of a .gguf file, or owner/repo[:file]"
        raise InvalidArgumentError(msg)
    if model == "":
        msg = "the model's path is empty"
        raise InvalidArgumentError(msg)
    if not isinstance(model, str) or not is_name(model) or Path(model).exists():
        return model
    name = parse(model)
    path = pulled(name)
    if path is None:
        msg = (
            f"{model} is neither a file here nor a model that has been pulled; "
            f"rocmforge pull {model} fetches it"
        )
        raise InvalidArgumentError(msg)
    return path
