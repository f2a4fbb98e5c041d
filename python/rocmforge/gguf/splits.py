"""Models split over several files, named NAME-00001-of-0000N.gguf as llama.cpp writes them."""

from __future__ import annotations

import re
from pathlib import Path

from rocmforge.errors import InvalidArgumentError
from rocmforge.gguf.metadata import Metadata

# Each part keeps two descriptors open; the usual limit of a process is 1024.
MAX_PARTS = 256

_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


def num_parts(metadata: Metadata) -> int:
    """1 for a file that is whole."""
    return max(1, metadata.uint("split.count", 1, maximum=MAX_PARTS))


def part_paths(first: Path, metadata: Metadata) -> list[Path]:
    """The files of a model whose first part is `first`, in order."""
    count = num_parts(metadata)
    if count == 1:
        return [first]
    number = metadata.uint("split.no", maximum=count - 1)
    name = _PART_NAME.fullmatch(first.name)
    if name is None or int(name["count"]) != count or int(name["number"]) != number + 1:
        msg = (
            f"{first} holds part {number + 1} of {count} of a model; to be found together, the "
            f"parts have to be named NAME-{number + 1:05}-of-{count:05}.gguf"
        )
        raise InvalidArgumentError(msg)
    paths = [first.with_name(f"{name['stem']}-{i + 1:05}-of-{count:05}.gguf") for i in range(count)]
    if number != 0:
        msg = f"{first} is part {number + 1} of {count}; open the first part, {paths[0]}"
        raise InvalidArgumentError(msg)
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        msg = f"{first} needs the other parts beside it; missing: {', '.join(missing[:4])}"
        raise InvalidArgumentError(msg)
    return paths


def check_part(metadata: Metadata, index: int, count: int) -> None:
    """Checks that a further part says of itself what its name says."""
    if metadata.uint("split.count") != count:
        metadata.fail("split.count", f"the first part counts {count} parts")
    if metadata.uint("split.no") != index:
        metadata.fail("split.no", f"the name says {index}, counted from 0")
