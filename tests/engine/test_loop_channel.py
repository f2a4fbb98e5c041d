from __future__ import annotations

import asyncio
from collections.abc import Callable

from fake_decoder import FakeDecoder
from fake_session import wait_for

from rocmforge.engine.host import EngineHost
from rocmforge.engine.loop_channel import LoopBridge, LoopChannel
from rocmforge.engine.messages import Submit, TokenEvent
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import SchedulerConfig


def make_host() -> EngineHost:
    return EngineHost(FakeDecoder(), SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=4))


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often another thread wakes it."""

    num_wakes = 0

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: object, **values: object
    ) -> asyncio.Handle:
        self.num_wakes += 1
        return super().call_soon_threadsafe(callback, *args, **values)  # type: ignore[arg-type]


def test_a_loop_is_woken_once_for_all_that_has_come() -> None:
    host = make_host()
    loop = CountingLoop()
    bridge = LoopBridge(host, loop)
    channels = [LoopChannel(bridge) for _ in range(5)]

    async def receive() -> list[int]:
        return [event.token_id for c in channels for event in await c.get()]  # type: ignore[union-attr]

    for burst in range(3):
        for i, channel in enumerate(channels):
            channel.put([TokenEvent(i, burst * 10 + i, None)])
        assert loop.num_wakes == burst + 1
        assert loop.run_until_complete(receive()) == [burst * 10 + i for i in range(5)]
    loop.close()
    host.close()


def test_requests_of_a_loop_that_is_closed_end() -> None:
    host = make_host()
    loop = asyncio.new_event_loop()
    channel = LoopChannel(LoopBridge(host, loop))
    loop.close()
    params = SamplingParams(max_tokens=50)
    host.submit(Submit(host.new_id(), [1, 2], params), channel)
    wait_for(lambda: host.stats().num_finished["cancelled"] == 1)
    assert host.stats().num_output_tokens < 5
    host.close()
