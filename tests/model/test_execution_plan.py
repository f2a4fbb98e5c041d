"""Which parts go to a GPU, with how much of its memory, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reference.tiny_models import write_tiny_model
from rocmforge.errors import OutOfMemoryError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.config import ModelConfig
from rocmforge.model.device_choice import DeviceChoice
from rocmforge.model.execution_plan import ExecutionPlan, plan_on
from rocmforge.model.gpu_devices import GpuDevice, emulated_gpus
from rocmforge.model.gpu_memory import step_bytes
from rocmforge.model.options import LoadOptions

NUM_LAYERS = 6
GPU = replace(emulated_gpus()[0], name="hip:0", memory_bytes=1 << 30)
CPU = DeviceChoice(None, "asked for")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_tiny_model(folder / "m.gguf", "llama", "Q8_0", num_layers=NUM_LAYERS)


@pytest.fixture(params=["tied", "untied"])
def any_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GGUFFile]:
    tied = request.param == "tied"
    path = write_tiny_model(
        tmp_path / "m.gguf", "llama", "Q8_0", num_layers=NUM_LAYERS, tied_output=tied
    )
    with GGUFFile.open(path) as file:
        yield file


def plan(
    file: GGUFFile, memory: int | None = None, config: ModelConfig | None = None, **options: Any
) -> ExecutionPlan:
    gpu = GPU if memory is None else replace(GPU, memory_bytes=memory)
    config = config or ModelConfig.from_gguf(file)
    return plan_on(DeviceChoice(gpu, "usable"), file, config, LoadOptions(**options))


def memory_for(file: GGUFFile, parts: list[str], tokens: int, **options: Any) -> int:
    """Of a GPU that these parts, the buffers of a step and a cache of `tokens` just fit into."""
    config, knobs = ModelConfig.from_gguf(file), LoadOptions(**options)
    whole = plan(file, 1 << 40, **options)
    chosen = [p for p in whole.parts if p.part.name in parts]
    names = {name for p in chosen for name in p.part.tensor_bytes}
    weights = sum(file.tensors[name].nbytes for name in names)
    kv_bytes = sum(p.kv_block_bytes for p in chosen) * -(-tokens // knobs.block_size)
    return int((weights + kv_bytes + step_bytes(config, knobs)) / GPU.memory_share) + 2


def names(plan: ExecutionPlan, device: str = "hip:0") -> list[str]:
    return [p.part.name for p in plan.parts if p.device == device]


def last(count: int) -> list[str]:
    return [*(f"layer {i}" for i in range(NUM_LAYERS - count, NUM_LAYERS)), "output"]


@pytest.mark.parametrize("count", [0, 1, 3, 5, 6])
def test_as_many_of_the_last_layers_as_fit_go_to_the_gpu(any_file: GGUFFile, count: int) -> None:
    context = ModelConfig.from_gguf(any_file).context_length
    memory = memory_for(any_file, last(count), context)
    if count == 0:
        with pytest.raises(OutOfMemoryError):
            plan(any_file, memory)
        return
    got = plan(any_file, memory)
    # An output matrix that is the embedding as well has brought it along.
    is_tied = "output.weight" not in any_file.tensors
    extra = ["embedding"] if is_tied and count == NUM_LAYERS else []
    assert names(got) == extra + last(count)
    assert got.cache.max_model_len == context
    assert got.cache.num_blocks >= context // 16
    assert got.weight_bytes("hip:0") + got.kv_bytes("hip:0") <= memory
    less = plan(any_file, memory - 4096) if count > 1 else None
    assert less is None or names(less) == last(count - 1)


def test_everything_goes_where_everything_fits(any_file: GGUFFile) -> None:
    got = plan(any_file, 1 << 40)
    assert names(got, "cpu") == []
    assert got.num_fallbacks == 0
    assert {p.reason for p in got.parts} == {"usable"}
    assert {p.device for p in got.placement()} == {"hip:0"}
    assert "penalties" in got.placement()[-1].reason
    assert got.weight_bytes("hip:0") == sum(t.nbytes for t in any_file.tensors.values())


def test_layers_without_room_are_fallbacks_that_say_so(any_file: GGUFFile) -> None:
    memory = memory_for(any_file, last(2), 512)
    got = plan(any_file, memory)
    assert got.num_fallbacks == len(names(got, "cpu")) == 5
    assert {p.reason for p in got.parts if p.is_fallback} == {
        "2 of 6 layers fit into the memory of hip:0"
    }
    with pytest.raises(OutOfMemoryError, match=r"require_gpu: embedding would .* 2 of 6 layers"):
        plan(any_file, memory, require_gpu=True)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_number_of_layers_is_kept_and_no_fallback(any_file: GGUFFile, count: int) -> None:
    got = plan(any_file, gpu_layers=count)
    assert names(got) == last(count)
    assert {p.reason for p in got.parts if p.device == "cpu"} == {f"gpu_layers={count}"}
    assert got.num_fallbacks == 0
    assert names(plan(any_file, gpu_layers=count, require_gpu=True)) == last(count)
    with pytest.raises(OutOfMemoryError, match=r"weights need \d+"):
        plan(any_file, 1 << 20, gpu_layers=count)


@pytest.mark.parametrize("count", [NUM_LAYERS, NUM_LAYERS + 1, 999])
def test_all_layers_bring_the_embedding_along(any_file: GGUFFile, count: int) -> None:
    assert len(names(plan(any_file, gpu_layers=count))) == NUM_LAYERS + 2


def test_the_smaller_pool_decides_the_number_of_blocks(path: Path) -> None:
    with GGUFFile.open(path) as file:
        layer = plan(file).layers[0].kv_block_bytes
        small = memory_for(file, last(3), 40 * 16)
        got = plan(file, small, gpu_layers=3, max_model_len=64)
        assert 40 <= got.cache.num_blocks < 44
        assert got.kv_bytes("hip:0") == got.kv_bytes("cpu") == 3 * layer * got.cache.num_blocks
        assert got.cache.nbytes == got.kv_bytes("hip:0") + got.kv_bytes("cpu")


def test_a_part_that_no_kernel_takes_stays_on_the_cpu_whatever_was_asked(path: Path) -> None:
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        wide = replace(config, head_dim=512, value_dim=512)
        with pytest.raises(UnsupportedError, match=r"hip:0: GPU kernels take heads of at most 256"):
            plan(file, config=wide)
        odd = replace(config, head_dim=18)
        with pytest.raises(UnsupportedError, match=r"multiple of 4 elements.* 18 and"):
            plan(file, config=odd, gpu_layers=2)


def test_one_layer_that_no_kernel_takes_is_a_fallback_with_its_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rocmforge.model import execution_plan

    def parts(file: GGUFFile, config: ModelConfig) -> list[Any]:
        found = real(file, config)
        found[3] = replace(found[3], problem="it is odd")
        return found

    real = execution_plan.model_parts
    monkeypatch.setattr(execution_plan, "model_parts", parts)
    with GGUFFile.open(path) as file:
        got = plan(file)
        assert names(got, "cpu") == ["layer 2"]
        assert (got.layers[2].reason, got.num_fallbacks) == ("it is odd", 1)
        assert names(plan(file, gpu_layers=5), "cpu") == ["embedding", "layer 0", "layer 2"]
        assert plan(file, gpu_layers=5).num_fallbacks == 1
        with pytest.raises(UnsupportedError, match=r"require_gpu: layer 2 .*it is odd"):
            plan(file, require_gpu=True)


def test_the_plan_of_a_cpu_counts_fallbacks_only_where_nobody_asked(path: Path) -> None:
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        asked = plan_on(CPU, file, config, LoadOptions())
        assert asked.num_fallbacks == 0
        lacking = plan_on(replace(CPU, is_fallback=True), file, config, LoadOptions())
        assert lacking.num_fallbacks == NUM_LAYERS + 3
        assert asked.layers[0].part.formats == ("Q8_0",)


def test_every_tensor_is_of_the_part_that_reads_it(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "gpt2", "Q8_0")
    with GGUFFile.open(path) as file:
        parts = [
            p.part for p in plan_on(CPU, file, ModelConfig.from_gguf(file), LoadOptions()).parts
        ]
        of = {part.name: set(part.tensor_bytes) for part in parts}
        assert of["embedding"] == {"token_embd.weight", "position_embd.weight"}
        assert of["output"] - {"token_embd.weight", "output.weight"} == {
            "output_norm.weight",
            "output_norm.bias",
        }
        assert set().union(*of.values()) == set(file.tensors)
        assert all(part.formats == ("Q8_0",) for part in parts)


LARGE = replace(GPU, num_multiprocessors=132, shares_host_memory=False, memory_bytes=64 << 30)


@pytest.mark.parametrize(
    ("gpu", "options", "tokens"),
    [
        (LARGE, {"long_steps": True}, 2048),
        (LARGE, {}, 512),
        (LARGE, {"long_steps": True, "max_num_tokens": 4096}, 4096),
        (LARGE, {"long_steps": True, "gpu_layers": 2}, 512),
        (replace(LARGE, num_multiprocessors=48), {"long_steps": True}, 512),
        (replace(LARGE, shares_host_memory=True), {"long_steps": True}, 512),
        (replace(LARGE, memory_bytes=1 << 30), {"long_steps": True}, 512),
        (None, {"long_steps": True}, 512),
    ],
)
def test_steps_are_long_on_a_large_gpu_that_has_the_whole_model(
    path: Path, gpu: GpuDevice | None, options: dict[str, Any], tokens: int
) -> None:
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        got = plan_on(DeviceChoice(gpu, "usable"), file, config, LoadOptions(**options))
    assert got.max_num_tokens == tokens
