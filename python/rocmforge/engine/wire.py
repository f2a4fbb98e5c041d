"""Messages as bytes: how an engine in a process of its own is spoken to over a socket.

A frame is its length in four bytes, big-endian, and that many bytes of msgpack: an array of
messages, each an array whose first element tells the kind. Nothing is ever built from a name in the data but the
classes of rocmforge.errors, and no frame is longer than MAX_FRAME_BYTES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any, Final

import msgpack
import numpy as np

from rocmforge import errors
from rocmforge.engine.config import EngineConfig
from rocmforge.engine.messages import (
    Accepted,
    Cancel,
    Finished,
    Heartbeat,
    Loaded,
    LoadFailed,
    LogprobsEvent,
    Message,
    RowsEvent,
    Start,
    Submit,
    TokenEvent,
)
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.stats import CacheStats, EngineStats
from rocmforge.errors import DeviceError, InvalidArgumentError, RocmForgeError

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
# Messages share a frame up to this size; rows are cut to it.
_FRAME_BYTES: Final = 1024 * 1024
_LENGTH_BYTES: Final = 4
_HEADER_BYTES: Final = 5  # of an array, at most

_ERRORS: Final[dict[str, type[RocmForgeError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RocmForgeError)
}


def encode(messages: Iterable[Message]) -> Iterator[bytes]:
    """Frames that hold the messages, in order.

    Raises InvalidArgumentError for a message that is too large for a frame, or a number in it for
    64 bits.
    """
    parts: list[bytes] = []
    size = 0
    for fields_ in _flattened(messages):
        try:
            part: bytes = msgpack.packb(fields_)
        except OverflowError:
            msg = "a number of a message, such as a token id, is beyond 64 bits"
            raise InvalidArgumentError(msg) from None
        if len(part) > MAX_FRAME_BYTES - _HEADER_BYTES:
            msg = f"a message of {len(part)} bytes is over the limit of {MAX_FRAME_BYTES}"
            raise InvalidArgumentError(msg)
        if parts and size + len(part) > _FRAME_BYTES:
            yield _frame(parts, size)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield _frame(parts, size)


class FrameReader:
    """Messages from the bytes of a stream, however these are cut."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes.

        Raises DeviceError for what the other side would never send.
        """
        self._data += data
        messages: list[Message] = []
        while len(self._data) >= _LENGTH_BYTES:
            length = int.from_bytes(self._data[:_LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                msg = f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}"
                raise DeviceError(msg)
            end = _LENGTH_BYTES + length
            if len(self._data) < end:
                break
            messages += _decode(bytes(self._data[_LENGTH_BYTES:end]))
            del self._data[:end]
        return messages


def _frame(parts: list[bytes], size: int) -> bytes:
    header: bytes = msgpack.Packer().pack_array_header(len(parts))
    return b"".join([(len(header) + size).to_bytes(_LENGTH_BYTES, "big"), header, *parts])


def _decode(body: bytes) -> list[Message]:
    try:
        messages = msgpack.unpackb(body, strict_map_key=False)
        return [_DECODERS[kind](*rest) for kind, *rest in messages]
    except Exception as error:
        msg = f"a frame of {len(body)} bytes cannot be read: {type(error).__name__}: {error}"
        raise DeviceError(msg) from error


def _flattened(messages: Iterable[Message]) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        if isinstance(message, RowsEvent):
            yield from _rows_fields(message)
        else:
            yield _ENCODERS[type(message)](message)


def _rows_fields(event: RowsEvent) -> Iterator[tuple[Any, ...]]:
    num_rows = max(1, _FRAME_BYTES // (4 * event.rows.shape[1]))
    for begin in range(0, len(event.rows), num_rows):
        rows = np.ascontiguousarray(event.rows[begin : begin + num_rows], np.float32)
        yield "rows", event.request_id, event.start + begin, rows.shape[1], rows.tobytes()


def _rows(request_id: int, start: int, width: int, data: bytes) -> RowsEvent:
    return RowsEvent(request_id, start, np.frombuffer(data, np.float32).reshape(-1, width))


def _submit_fields(submit: Submit) -> tuple[Any, ...]:
    params = None if submit.params is None else asdict(submit.params)
    return (
        "submit",
        submit.request_id,
        list(submit.prompt_token_ids),
        params,
        submit.seed,
        submit.output,
        submit.namespace,
        list(submit.stop_token_ids),
        submit.max_wait_s,
        submit.num_logprobs,
        submit.pooling,
    )


def _submit(
    request_id: int,
    prompt_token_ids: list[int],
    params: dict[str, Any] | None,
    seed: int,
    output: Any,
    namespace: str,
    stop_token_ids: list[int],
    *rest: Any,
) -> Submit:
    return Submit(
        request_id,
        prompt_token_ids,
        None if params is None else SamplingParams(**params),
        seed,
        output,
        namespace,
        frozenset(stop_token_ids),
        *rest,
    )


def _finished_fields(event: Finished) -> tuple[Any, ...]:
    return (
        "finished",
        event.request_id,
        event.reason,
        None if event.error is None else _error_fields(event.error),
        event.num_prompt_tokens,
        event.num_cached_tokens,
        event.num_output_tokens,
        event.queue_s,
        event.prefill_s,
        event.decode_s,
    )


def _finished(request_id: int, reason: Any, error: list[str] | None, *rest: Any) -> Finished:
    return Finished(request_id, reason, None if error is None else _error(*error), *rest)


def _error_fields(error: Exception) -> tuple[str, str]:
    return type(error).__name__, str(error)


def _error(name: str, message: str) -> RocmForgeError:
    return _ERRORS.get(name, RocmForgeError)(message)


def _loaded(name: str, placement: list[list[str]], *rest: Any) -> Loaded:
    return Loaded(name, [(part, device, reason) for part, device, reason in placement], *rest)


def _heartbeat(stats: dict[str, Any], *rest: int) -> Heartbeat:
    return Heartbeat(EngineStats(**{**stats, "cache": CacheStats(**stats["cache"])}), *rest)


def _values(message: Any) -> tuple[Any, ...]:
    return tuple(getattr(message, field.name) for field in fields(message))


_ENCODERS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    TokenEvent: lambda event: ("token", event.request_id, event.token_id, event.logprobs),
    LogprobsEvent: lambda event: ("logprobs", *_values(event)),
    Finished: _finished_fields,
    Submit: _submit_fields,
    Cancel: lambda cancel: ("cancel", cancel.request_id, cancel.reason),
    Start: lambda start: ("start", start.model, asdict(start.config)),
    Loaded: lambda loaded: ("loaded", *_values(loaded)),
    LoadFailed: lambda failed: ("load_failed", *_error_fields(failed.error)),
    Accepted: lambda accepted: ("accepted", accepted.request_id),
    Heartbeat: lambda beat: ("heartbeat", asdict(beat.stats), beat.rss_bytes, beat.progress),
}

_DECODERS: Final[dict[str, Callable[..., Message]]] = {
    "token": TokenEvent,
    "rows": _rows,
    "logprobs": LogprobsEvent,
    "finished": _finished,
    "submit": _submit,
    "cancel": Cancel,
    "start": lambda model, config: Start(model, EngineConfig(**config)),
    "loaded": _loaded,
    "load_failed": lambda *error: LoadFailed(_error(*error)),
    "accepted": Accepted,
    "heartbeat": _heartbeat,
}
