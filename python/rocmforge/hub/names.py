"""`owner/repo[:file]`, and which files of a repository it means. Names of files come from a server
and become paths: what is not plainly a name is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rocmforge.errors import InvalidArgumentError

# The hub's own rule for owners and repositories, and names of files that no file system bends.
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_NAME: Final = re.compile(rf"({_PART})/({_PART})(?::(.+))?")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+ @=,()\[\]-]{0,199}")
_SPLIT: Final = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
# Of several, without a choice: what most people want, then what loses next to nothing.
_PREFERRED: Final = ("Q4_K_M", "Q8_0")


@dataclass(frozen=True, slots=True)
class ModelName:
    owner: str
    repo: str
    file: str | None = None  # a file, or a part of its name such as Q4_K_M

    @property
    def repository(self) -> str:
        return f"{self.owner}/{self.repo}"

    def __str__(self) -> str:
        return self.repository if self.file is None else f"{self.repository}:{self.file}"


def is_name(text: str) -> bool:
    """Whether a text is a model's name rather than the path of a file."""
    match = _NAME.fullmatch(text)
    return match is not None and not (match[3] is None and text.lower().endswith(".gguf"))


def parse(text: str) -> ModelName:
    """Raises InvalidArgumentError for what is no name."""
    match = _NAME.fullmatch(text)
    if match is None or ".." in text:
        msg = f"{text!r} is no model's name: owner/repo, or owner/repo:file"
        raise InvalidArgumentError(msg)
    return ModelName(match[1], match[2], match[3])


def is_safe(file: str) -> bool:
    """Whether a file's name stays within the folder it is put into."""
    parts = file.split("/")
    return len(parts) <= 8 and all(_FILE.fullmatch(part) and ".." not in part for part in parts)


def choose(name: ModelName, files: Iterable[str]) -> list[str]:
    """The file that is meant, with all its parts if it is split, in order.

    Raises InvalidArgumentError listing what there is if that is none, several or incomplete.
    """
    models: dict[str, list[str]] = {}
    for file in sorted(files):
        if file.lower().endswith(".gguf") and not file.split("/")[-1].startswith("mmproj"):
            models.setdefault(_SPLIT.sub(".gguf", file), []).append(file)
    found = _matching(name.file, models)
    if len(found) != 1:
        there = ", ".join(models) or "no .gguf file"
        what = "several models; name one" if len(found) > 1 else "no such model"
        msg = f"{name}: {what} (there is: {there})"
        raise InvalidArgumentError(msg)
    parts = models[found[0]]
    match = _SPLIT.search(parts[0])
    if match is not None and len(parts) != int(match[2]):
        msg = f"{name}: {len(parts)} of {int(match[2])} parts are there: {', '.join(parts)}"
        raise InvalidArgumentError(msg)
    return parts


def _matching(wanted: str | None, models: dict[str, list[str]]) -> list[str]:
    if wanted is None:
        if len(models) == 1:
            return list(models)
        for kind in _PREFERRED:
            if len(found := _of_kind(kind, models)) == 1:
                return found
        return list(models)
    exact = [m for m, files in models.items() if wanted == m or wanted in files]
    return exact or _of_kind(wanted, models)


def _of_kind(kind: str, models: Iterable[str]) -> list[str]:
    """Those whose name ends with it, as a word."""
    end = re.compile(rf"(^|[./-]){re.escape(kind.lower())}\.gguf$")
    return [model for model in models if end.search(model.lower())]
