"""What the executor of the host build refuses and reports, and that it has every kernel."""

from __future__ import annotations

import re

import numpy as np
import pytest
from host_kernels import (
    KERNELS,
    WAVES,
    KernelError,
    Memory,
    count,
    launch,
    operations,
    run,
    struct,
    unset,
)
from linear_cases import has_float_activations
from step_formats import STEP_FORMATS

from reference.blocks import FORMATS


def variants(operation: str, kind: str) -> list[str]:
    caches = ("f32", "f16", "bf16", "q8_0")
    if kind == "FORMATS":
        return list(FORMATS)
    if kind == "LINEAR":
        names = [n for n in FORMATS if operation == "linear_float" or not has_float_activations(n)]
        return [f"{name}_c{c}" for name in names for c in (1, 4, 8)]
    quantized = [name for name in FORMATS if not has_float_activations(name)]
    if kind == "MMA":
        return [f"{name}_c{c}" for name in quantized for c in (16, 32, 64)]
    if kind == "DIRECT":
        return [f"{name}_c{c}" for name in quantized for c in (16, 32)]
    if kind == "QUANTIZED":
        return quantized
    if kind == "GEMM":
        return ["r128", "r256"]
    if kind == "ATTEND_MMA":
        return [f"{cache}_d{d}" for cache in caches[1:] for d in (64, 128)]
    if kind == "CACHE":
        return list(caches)
    if kind == "PREFILL":
        return [f"{cache}_d{d}" for cache in caches for d in (64, 128, 256)]
    if kind == "DECODE":
        return [f"{cache}_g{g}" for cache in caches for g in (1, 2, 4, 8)]
    if kind == "STEP":
        return [f"c{c}" for c in (1, 4)]
    if kind == "STEP_FORMATS":
        return [f"{name}_c{c}" for name in STEP_FORMATS for c in (1, 4)]
    if kind == "STEP_CACHE":
        return [f"{cache}_d{d}_g{g}" for cache in caches for d in (64, 128) for g in (1, 2, 4)]
    assert kind in ("", "MATRIX")
    return [""]


@pytest.mark.parametrize("operation", sorted(operations()))
def test_every_kernel_of_the_list_is_there_with_its_arguments(operation: str) -> None:
    kind, name = operations()[operation]
    args = struct(name)
    for variant in variants(operation, kind):
        for wave in WAVES:
            kernel = "_".join(filter(None, ["rf", operation, variant, f"w{wave}"]))
            with pytest.raises(KernelError, match=r"its grid \(0, 1, 1\) is empty"):
                run(kernel, args, (0,), block=(threads(operation), 1, 1))


def threads(operation: str) -> int:
    special = {"step_residual": 512}
    return special.get(operation, 256)


def test_every_kernel_file_is_in_the_list_and_in_the_build() -> None:
    files = {path.stem for path in KERNELS.glob("*.hip")}
    listed = set(operations())
    # Variants of how a result leaves are of one file.
    forms = {
        re.sub(r"^(rms_norm|silu_mul|linear)_(q8|bf16|tiles)$", r"\1", name) for name in listed
    }
    assert forms - {"linear", "add_bias"} | {"linear_q8"} == files
    build = set(
        re.findall(r"^  (\w+)\.hip", (KERNELS / "CMakeLists.txt").read_text(), re.MULTILINE)
    )
    assert build == files


def test_launches_that_no_device_would_take_are_refused() -> None:
    x = Memory(np.zeros((1, 4), np.float32))
    args = struct("AddArgs", y=x.address, x=x.address, num_rows=count(1).address, n=4)
    with pytest.raises(KernelError, match="no such kernel"):
        run("rf_add_w16", args, (1,))
    with pytest.raises(KernelError, match="arguments are 32 bytes, not 40"):
        run("rf_add_w32", struct("GatherRowsArgs"), (1,))
    with pytest.raises(KernelError, match=r"blocks are \(256, 1, 1\), not \(128, 1, 1\)"):
        run("rf_add_w32", args, (1,), block=(128, 1, 1))
    with pytest.raises(KernelError, match="no dynamic shared memory"):
        run("rf_add_w32", args, (1,), shared_bytes=16)
    with pytest.raises(KernelError, match="exceeds"):
        run("rf_add_w32", args, (1, 70000))


@pytest.mark.parametrize("wave", WAVES)
def test_launches_of_one_thread_after_another_give_the_same(wave: int) -> None:
    """The fibers of a launch leave nothing behind for the next."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 600), dtype=np.float32)
    fields = {"x": Memory(x), "weight": Memory(x[0]), "num_rows": count(5), "n": 600, "eps": 1e-5}
    first, second = unset(5, 600), unset(5, 600)
    launch("rms_norm", wave, (5,), y=first, **fields)
    launch("add", wave, (1, 1), y=unset(1, 4), x=Memory(x), num_rows=count(1), n=4)
    launch("rms_norm", wave, (5,), y=second, **fields)
    assert np.array_equal(first.array, second.array)
