"""The router's choice, the order of slots, and the experts' outputs back together."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import ROW_PIECE, THREADS, WAVES, Memory, ceil_div, count, launch, unset
from linear_cases import UNIT_ROUNDOFF


def route(logits: np.ndarray, used: int, wave: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, experts = logits.shape
    expert, weight = unset(tokens + 1, used, dtype=np.int32), unset(tokens + 1, used)
    launch(
        "route",
        wave,
        (ceil_div(tokens + 1, THREADS // wave),),
        expert=expert,
        weight=weight,
        logits=Memory(logits),
        num_tokens=count(tokens),
        experts=experts,
        used=used,
    )
    assert (expert.array[tokens:] == -1).all()
    return expert.array[:tokens], weight.array[:tokens]


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize(("experts", "used"), [(1, 1), (8, 2), (33, 8), (64, 64), (130, 6)])
def test_the_best_experts_share_the_softmax_of_their_logits(
    experts: int, used: int, wave: int
) -> None:
    logits = np.random.default_rng(experts).normal(0, 3, (11, experts)).astype(np.float32)
    expert, weight = route(logits, used, wave)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :used]
    assert np.array_equal(expert, best)
    exact = np.exp(np.take_along_axis(logits, best, 1).astype(np.float64))
    exact /= exact.sum(1, keepdims=True)
    # The difference of two logits rounds once, exp to 4 roundings, the sum adds `used`, a quotient.
    spread = logits.max(1, keepdims=True) - logits.min(1, keepdims=True)
    assert np.all(np.abs(weight - exact) <= (spread + used + 12) * UNIT_ROUNDOFF * exact)


@pytest.mark.parametrize("wave", WAVES)
def test_ties_go_to_the_lowest_index_and_nan_is_the_worst(wave: int) -> None:
    logits = np.zeros((6, 70), np.float32)
    logits[0, [3, 40, 69]] = 1.0
    logits[1, ::2] = -0.0
    logits[2, :] = -np.inf
    logits[2, 50] = -5.0
    logits[3, :60] = np.nan
    logits[4, [7, 9]] = np.inf
    logits[5, :] = np.nan
    expert, weight = route(logits, 4, wave)
    assert expert.tolist() == [
        [3, 40, 69, 0],
        [0, 1, 2, 3],
        [50, 0, 1, 2],
        [60, 61, 62, 63],
        [7, 9, 0, 1],
        [0, 1, 2, 3],
    ]
    assert np.array_equal(weight[1], np.full(4, 0.25, np.float32))
    assert np.array_equal(weight[2], np.array([1, 0, 0, 0], np.float32))
    assert np.isnan(weight[5]).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize(("tokens", "experts", "used"), [(0, 4, 2), (1, 8, 2), (37, 300, 5)])
def test_slots_are_ordered_by_expert_then_token(
    tokens: int, experts: int, used: int, wave: int
) -> None:
    rng = np.random.default_rng(tokens)
    expert = np.array([rng.permutation(experts)[:used] for _ in range(tokens)], np.int32)
    slots = tokens * used
    out = {
        "expert_begin": unset(experts + 1, dtype=np.int32),
        "slot_token": unset(slots + 1, dtype=np.int32),
        "slot_expert": unset(slots + 1, dtype=np.int32),
        "token_slot": unset(slots + 1, dtype=np.int32),
        "num_slots": unset(1, dtype=np.int32),
    }
    launch(
        "sort_slots",
        wave,
        (1,),
        **out,
        expert=Memory(np.append(expert, 0).astype(np.int32)),
        num_tokens=count(tokens),
        experts=experts,
        used=used,
    )
    order = np.argsort(expert.reshape(-1), kind="stable")
    begin = np.searchsorted(expert.reshape(-1)[order], np.arange(experts + 1))
    assert np.array_equal(out["expert_begin"].array, begin)
    assert np.array_equal(out["slot_token"].array, [*(order // used), -1])
    assert np.array_equal(out["slot_expert"].array, [*expert.reshape(-1)[order], -1])
    assert np.array_equal(out["token_slot"].array, [*np.argsort(order), -1])
    assert out["num_slots"].array[0] == slots


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("n", [6, 1000, 1100])
def test_outputs_are_added_with_their_weights(n: int, wave: int) -> None:
    rng = np.random.default_rng(n)
    tokens, used = 3, 4
    start = rng.standard_normal((tokens + 1, n), dtype=np.float32)
    x = rng.standard_normal((tokens * used, n), dtype=np.float32)
    weight = rng.random((tokens, used), dtype=np.float32)
    slot = rng.permutation(tokens * used).reshape(tokens, used).astype(np.int32)
    y = Memory(start)
    launch(
        "combine",
        wave,
        (tokens + 1, ceil_div(n, ROW_PIECE)),
        y=y,
        x=Memory(x),
        weight=Memory(weight),
        token_slot=Memory(slot),
        num_tokens=count(tokens),
        used=used,
        n=n,
    )
    products = weight[..., None].astype(np.float64) * x[slot]
    exact = start[:tokens] + products.sum(1)
    bound = used * UNIT_ROUNDOFF * (np.abs(start[:tokens]) + np.abs(products).sum(1))
    assert np.all(np.abs(y.array[:tokens] - exact) <= bound)
    assert np.array_equal(y.array[tokens], start[tokens])
