"""How the hidden states of a text's tokens become its embedding, by the key `pooling_type`."""

from __future__ import annotations

from typing import Final, Literal, get_args

from rocmforge.errors import InvalidArgumentError, UnsupportedError
from rocmforge.model.keys import Keys

Pooling = Literal["mean", "cls", "last"]  # over the tokens; of the first; of the last

# llama.cpp's numbers. Whoever wants the vectors of tokens themselves has no need of a key.
_KINDS: Final[dict[int, Pooling | None]] = {0: None, 1: "mean", 2: "cls", 3: "last"}
_RANK: Final = 4


def checked_pooling(pooling: Pooling) -> Pooling:
    """Raises InvalidArgumentError for another word."""
    if pooling not in get_args(Pooling):
        msg = f"pooling is {pooling!r}; it can be {', '.join(get_args(Pooling))}"
        raise InvalidArgumentError(msg)
    return pooling


def read_pooling(keys: Keys) -> Pooling | None:
    """None where the file names none. Raises UnsupportedError for a model that ranks texts."""
    number = keys.uint("pooling_type", 0, minimum=0, maximum=_RANK)
    if number == _RANK:
        msg = (
            "this model scores pairs of texts (pooling_type 4, rank), which is not supported; "
            "models that generate text or make embeddings are"
        )
        raise UnsupportedError(msg)
    return _KINDS[number]
