"""Thousands of clients that leave at any moment: nothing of them stays.

ROCMFORGE_ABORTED_STREAMS is how many; 10,000 take a minute or two.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from served import SMALL, Served, serving, wait_for

NUM_STREAMS = int(os.environ.get("ROCMFORGE_ABORTED_STREAMS", "2000"))
NUM_AT_ONCE = 24
NUM_SEQS = 8
MAX_GROWTH_BYTES = 24 * 2**20

ENDLESS = {"max_tokens": 480, "ignore_eos": True, "stream": True}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": "Once upon a time", **ENDLESS}),
    ("/v1/completions", {"prompt": ["The sea", "A king"], "n": 2, "logprobs": 2, **ENDLESS}),
    ("/v1/completions", {"prompt": "The sea was", "echo": True, "logprobs": 1, **ENDLESS}),
    ("/v1/completions", {"prompt": "a", "regex": "[a-z ]*", **ENDLESS}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], **ENDLESS}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 400}),
    ("/v1/generate/stream", {"prompt": "The sea", "max_tokens": 480}),
    ("/v1/embeddings", {"input": ["The king went down to the sea.", "No."]}),
]


@dataclass(frozen=True)
class Held:
    """What a server has of the system, and what of its own, while it is idle."""

    descriptors: float
    threads: int
    tasks: float
    resident_bytes: float

    @classmethod
    def by(cls, served: Served) -> Held:
        served.wait_until_idle()
        return cls(
            descriptors=served.metric("rocmforge_server_descriptors"),
            threads=len(list(Path(f"/proc/{served.process.pid}/task").iterdir())),
            tasks=served.metric("rocmforge_server_tasks"),
            resident_bytes=served.metric("rocmforge_resident_bytes"),
        )


async def abort_streams(url: str, count: int, random_: random.Random) -> int:
    """How many had an answer that had begun."""
    parts = urlsplit(url)
    left, num_begun = count, 0

    async def client() -> None:
        nonlocal left, num_begun
        while left > 0:
            left -= 1
            path, body = random_.choice(REQUESTS)
            data = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            whole = head.encode() + data
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            moment = random_.choice(
                ["in the request", "after it", "while it waits", *["later"] * 3]
            )
            if moment == "in the request":
                writer.write(whole[: random_.randrange(len(whole))])
            else:
                writer.write(whole)
            if moment == "while it waits":
                await asyncio.sleep(random_.choice([0.001, 0.01, 0.1]))
            if moment == "later" and (body.get("stream") or "generate" in path):
                data = await reader.read(random_.choice([1, 100, 1000, 4000]))
                num_begun += data.startswith(b"HTTP/1.1 200"[: len(data)])
            await leave(writer, random_.choice(["goodbye", "reset", "half"]))

    await asyncio.gather(*(client() for _ in range(NUM_AT_ONCE)))
    return num_begun


async def leave(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "half" and not writer.is_closing():
        writer.write_eof()
        await asyncio.sleep(0.002)
    if how == "reset":
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.timeout(300 + NUM_STREAMS // 10)
def test_aborted_streams_leave_no_block_task_thread_or_descriptor_behind(tmp_path: Path) -> None:
    random_ = random.Random(7)
    with serving(tmp_path, *SMALL, "--max-num-seqs", str(NUM_SEQS)) as served:
        # Pools of threads and buffers have their size after some of them, the KV cache has its own
        # once every sequence has been as long as it can.
        asyncio.run(abort_streams(served.url, NUM_STREAMS // 4, random_))
        whole = {"prompt": "The sea was", "max_tokens": 500, "ignore_eos": True}
        with ThreadPoolExecutor(NUM_SEQS) as clients:
            answers = list(
                clients.map(served.post, ["/v1/completions"] * NUM_SEQS, [whole] * NUM_SEQS)
            )
        assert {answer.status_code for answer in answers} == {200}
        before = Held.by(served)
        num_begun = asyncio.run(abort_streams(served.url, NUM_STREAMS, random_))
        assert NUM_STREAMS / 4 < num_begun < NUM_STREAMS * 3 / 4
        wait_for(lambda: Held.by(served).descriptors <= before.descriptors)
        after = Held.by(served)
        assert after.tasks <= before.tasks
        assert after.threads <= before.threads
        assert after.resident_bytes - before.resident_bytes < MAX_GROWTH_BYTES
        assert served.metric("rocmforge_engine_restarts_total") == 0
        answer = served.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
        assert answer.status_code == 200
        assert not [e for e in served.log_entries() if "traceback" in e]
        assert not [e for e in served.log_entries() if e.get("status") == 500]
