"""Bugs that schedulers and caches have had, each as the change of one line that brings it in."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import pytest

from rocmforge.engine import engine
from rocmforge.engine.block_manager import BlockManager
from rocmforge.engine.engine import Engine
from rocmforge.engine.inbox import Inbox
from rocmforge.engine.prefix_cache import PrefixCache
from rocmforge.engine.schedule import Schedule
from rocmforge.engine.scheduler import Scheduler


@dataclass(frozen=True)
class KnownBug:
    """`right` stands once in the source of `owner`'s function and becomes `wrong`."""

    name: str
    owner: Any
    function: str
    right: str
    wrong: str
    also: KnownBug | None = None  # where one line has a second to catch it

    def bring_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if self.also is not None:
            self.also.bring_in(monkeypatch)
        found = inspect.getattr_static(self.owner, self.function)
        function = found.fget if isinstance(found, property) else found
        source = inspect.getsource(function)
        assert source.count(self.right) == 1, f"{self.name}: the code is another by now"
        changed: dict[str, Any] = {}
        if source.startswith(" "):  # a method
            source = f"if True:\n{source}"
        exec(source.replace(self.right, self.wrong), function.__globals__, changed)  # noqa: S102
        monkeypatch.setattr(self.owner, self.function, changed[self.function])


KNOWN_BUGS = [
    # Blocks: llama.cpp, vLLM and lmdeploy have all leaked them over cancelled requests.
    KnownBug(
        "a cancelled request keeps its blocks",
        *(Scheduler, "finish"),
        right="        else:\n            self.blocks.release(request)",
        wrong='        elif reason != "cancelled":\n            self.blocks.release(request)',
    ),
    KnownBug(
        "blocks come back while a step still writes them",
        *(Scheduler, "finish"),
        right="        if request.num_in_flight_steps:\n",
        wrong="        self.blocks.release(request)\n        if request.num_in_flight_steps:\n",
    ),
    KnownBug(
        "a block is freed twice",
        *(BlockManager, "release"),
        right="                    self._free.append(block_id)",
        wrong="                    self._free += [block_id] * (1 + (block_id == 2))",
    ),
    KnownBug(
        "a shared block is freed with its first user",
        *(BlockManager, "release"),
        right="            if count == 0:",
        wrong="            if count <= 1:",
    ),
    KnownBug(
        "a hit is not counted",
        *(BlockManager, "admit"),
        right="            self._ref_counts[block_id] += 1",
        wrong="            self._ref_counts[block_id] = 1",
    ),
    KnownBug(
        "a block that was found again can be evicted",
        *(BlockManager, "admit"),
        right="                del self._evictable[block_id]",
        wrong="                pass",
    ),
    KnownBug(
        "an evicted block is still found",
        *(BlockManager, "_take"),
        right="            self.cache.forget(block_id)",
        wrong="            pass",
    ),
    KnownBug(
        "a request that cannot grow is told that it has",
        *(BlockManager, "grow"),
        right="        if num_needed > self.num_free:\n            return False",
        wrong="        if num_needed > self.num_free:\n            return True",
    ),
    KnownBug(
        "blocks found for a request are not counted as taken",
        *(BlockManager, "admit"),
        right="num_new + num_revived + num_spare > self.num_free",
        wrong="num_new > self.num_free",
    ),
    # The prefix cache: vLLM's CVE-2025-25183, vllm-mlx's trimming by offset, llama.cpp #27148.
    KnownBug(
        "a block is found by its own tokens alone",
        *(PrefixCache, "match"),
        right="if entry.token_ids != content or entry.parent != parent:",
        wrong="if False:",
        also=KnownBug(
            "a digest without its parent",
            *(PrefixCache, "extend_digests"),
            right="chain_digest(parent, content)",
            wrong='chain_digest(b"", content)',
        ),
    ),
    KnownBug(
        "prefixes are shared between namespaces",
        *(engine, "make_request"),
        right="        num_logprobs=params.logprobs,\n        namespace=submit.namespace,",
        wrong="        num_logprobs=params.logprobs,",
    ),
    KnownBug(
        "the block with the last token of a prompt is taken from the cache",
        *(PrefixCache, "match"),
        right="num_blocks = (len(request.token_ids) - 1) // size",
        wrong="num_blocks = len(request.token_ids) // size",
    ),
    KnownBug(
        "a block is offered before it is full",
        *(PrefixCache, "publish"),
        right="num_full = request.num_computed_tokens // size",
        wrong="num_full = min(-(-request.num_computed_tokens // size), "
        "len(request.token_ids) // size)",
    ),
    KnownBug(
        "a preempted request believes in what it had computed",
        *(BlockManager, "admit"),
        right="= len(hits) * self.block_size",
        wrong="= max(request.num_computed_tokens, len(hits) * self.block_size)",
        also=KnownBug(
            "a preempted request keeps its marks",
            *(Scheduler, "_preempt_newest"),
            right="        victim.num_computed_tokens = victim.num_scheduled_tokens = 0\n",
            wrong="",
        ),
    ),
    # Scheduling: starvation, livelock, limits.
    KnownBug(
        "the oldest request is preempted",
        *(Scheduler, "_preempt_newest"),
        right="self.running.pop()",
        wrong="self.running.pop(0)",
    ),
    KnownBug(
        "a preempted request goes to the end of the queue",
        *(Scheduler, "_preempt_newest"),
        right="insort(self.waiting, victim, key=_arrival)",
        wrong="self.waiting.append(victim)",
    ),
    KnownBug(
        "what can never fit is taken",
        *(Scheduler, "check_fits"),
        right="if self.blocks.num_blocks_for(num_cached) > self.blocks.num_blocks:",
        wrong="if False:",
    ),
    KnownBug(
        "a step is larger than its budget",
        *(Scheduler, "_share"),
        right="return min(num_pending, budget)",
        wrong="return num_pending",
    ),
    KnownBug(
        "more requests run than may",
        *(Scheduler, "_admit"),
        right="if num_running == max_num_seqs or",
        wrong="if num_running > max_num_seqs or",
    ),
    KnownBug(
        "others wait for a block that nobody computes any more",
        *(Scheduler, "finish"),
        right="            self._fulfil(request, request.num_published_blocks, None)\n",
        wrong="",
    ),
    KnownBug(
        "prompts and draws share a step",
        *(Scheduler, "_fill"),
        right="if num_tokens == 0 or request.wants_rows is not wants_rows:",
        wrong="if num_tokens == 0:",
    ),
    KnownBug(
        "memory changes hands while a step is in flight",
        *(Engine, "_turn"),
        right="may_preempt=not self._in_flight",
        wrong="may_preempt=True",
    ),
    # Cancellation and ends: vLLM #57061, lmdeploy #1788, Rapid-MLX #1759.
    KnownBug(
        "a request that waits cannot be cancelled",
        *(Engine, "_drain_inbox"),
        right="if request is not None:",
        wrong='if request is not None and request.state.value != "waiting":',
    ),
    KnownBug(
        "a cancelled request's place in the queue stays taken",
        *(Inbox, "ended"),
        right="                self._num_queued -= 1",
        wrong="                pass",
    ),
    KnownBug(
        "an ended request is never forgotten",
        *(Inbox, "ended"),
        right="            del self._live[request.request_id]",
        wrong="            pass",
    ),
    KnownBug(
        "tokens come after the end",
        *(Engine, "_update"),
        right="if request.finish_reason is not None or not chunk.num_rows:",
        wrong="if not chunk.num_rows:",
    ),
    KnownBug(
        "an end is not told",
        *(Engine, "_end"),
        right="        self._events.append(finished_event(request, reason, error, self._clock()))",
        wrong='        if reason != "error":\n'
        "            self._events.append(finished_event(request, reason, error, self._clock()))",
    ),
    KnownBug(
        "one token more than was asked for",
        *(Engine, "_append_token"),
        right="elif len(request.token_ids) >= request.max_num_tokens:",
        wrong="elif len(request.token_ids) > request.max_num_tokens:",
    ),
    KnownBug(
        "the end of a text is overlooked",
        *(Engine, "_append_token"),
        right="if token_id in request.stop_token_ids or request.sampler.is_finished:",
        wrong="if request.sampler.is_finished:",
    ),
    KnownBug(
        "nobody has waited too long",
        *(Engine, "_end_overdue"),
        right="r.start_before < now and not r.was_admitted",
        wrong="False",
    ),
    KnownBug(
        "a preempted request has waited too long",
        *(Engine, "_end_overdue"),
        right=" and not r.was_admitted",
        wrong="",
    ),
    # Faults: one request's ends the others, or leaves something behind.
    KnownBug(
        "after a step without memory its requests are still in flight",
        *(Scheduler, "forget_in_flight"),
        right="            self.blocks.release(request)",
        wrong="            pass",
    ),
    KnownBug(
        "a step without memory is the end of the engine",
        *(Engine, "_collect"),
        right="except MemoryError as error:",
        wrong="except KeyError as error:",
    ),
    KnownBug(
        "one failing request fails the step",
        *(Engine, "_update"),
        right="            except Exception as error:",
        wrong="            except KeyError as error:",
    ),
    # Other requests' answers.
    KnownBug(
        "a draw is told to the request before",
        *(Engine, "_update"),
        right="token_ids[chunk.first_row], chunk.first_row",
        wrong="token_ids[max(0, chunk.first_row - 1)], chunk.first_row",
    ),
    KnownBug(
        "log-probabilities are those of another row",
        *(Engine, "_append_token"),
        right="logprobs_of(output, row,",
        wrong="logprobs_of(output, 0,",
    ),
    KnownBug(
        "a draw is mistaken for a known token",
        *(Schedule, "append"),
        right="request.last_row if request.num_unknown_tokens else -1",
        wrong="self.num_rows if request.num_unknown_tokens else -1",
    ),
    KnownBug(
        "the queue has no limit",
        *(Inbox, "submit"),
        right="if self._num_queued >= self._max_queue:",
        wrong="if False:",
    ),
]
