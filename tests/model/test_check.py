"""Checking a whole file: which tensors a model needs, what they cost, what is not used."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from gguf import GGUFReader

from gguf_bytes.tiny import FFN, HIDDEN, VOCAB, f32_tensor, split, tiny_model
from gguf_bytes.writer import GGUFBytes
from reference.tiny_models import write_tiny_model
from rocmforge.errors import InvalidArgumentError, ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model import ModelConfig, check_model, expected_tensors
from rocmforge.model.architectures import ARCHITECTURES
from rocmforge.model.check import TypeTotals


def write(folder: Path, model: GGUFBytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(model.build())
    return path


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_report_tells_what_a_model_holds(tmp_path: Path, architecture: str) -> None:
    model = tiny_model(architecture, layers=2)
    path = write(tmp_path, model)
    report = check_model(path)
    parameters = sum(len(t.data) // 4 for t in model.tensors)
    assert report.path == path
    assert (report.version, report.num_files) == (3, 1)
    assert report.size_bytes == path.stat().st_size
    assert report.config.architecture == architecture
    assert report.num_tensors == len(model.tensors)
    assert (report.num_parameters, report.tensor_bytes) == (parameters, 4 * parameters)
    assert report.types == {"F32": TypeTotals(len(model.tensors), parameters, 4 * parameters)}
    assert report.unused_tensors == ()


def test_totals_are_kept_by_type_largest_first(tmp_path: Path) -> None:
    model = tiny_model()
    q = model.tensor("blk.0.attn_q.weight")
    q.type_id, q.data = 8, bytes(32 * 34)
    report = check_model(write(tmp_path, model))
    assert list(report.types) == ["F32", "Q8_0"]
    assert report.types["Q8_0"] == TypeTotals(1, HIDDEN * HIDDEN, 32 * 34)
    assert report.tensor_bytes == sum(total.nbytes for total in report.types.values())


def test_report_covers_all_parts_of_a_split_model(tmp_path: Path) -> None:
    parts = split(tiny_model(), 2)
    paths = [tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part.build())
    report, whole = check_model(paths[0]), check_model(write(tmp_path, tiny_model()))
    assert report.num_files == 2
    assert report.size_bytes == sum(path.stat().st_size for path in paths)
    assert (report.num_tensors, report.types) == (whole.num_tensors, whole.types)


def test_tensors_that_nothing_uses_are_reported(tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    names = ["my.extra", "rope_freqs.weight", "blk.0.attn.rotary_emb.inv_freq"]
    model.tensors += [f32_tensor(name, 4) for name in names]
    assert check_model(write(tmp_path, model)).unused_tensors == tuple(names)


VARIANTS = [
    ("llama", "Q8_0", {}),
    ("llama", "Q4_K_M", {"tied_output": True}),
    ("llama", "F16", {"num_experts": 4}),
    ("llama", "Q4_0", {"attention_bias": True, "rope_scaling": "llama3"}),
    ("qwen2", "MXFP4", {"rope_scaling": "yarn", "head_dim": 32}),
    ("qwen3", "BF16", {"head_dim": 48, "num_kv_heads": 1}),
]


@pytest.mark.parametrize(("architecture", "weight_format", "knobs"), VARIANTS)
def test_models_of_the_gguf_packages_writer_are_whole(
    tmp_path: Path, architecture: str, weight_format: str, knobs: dict[str, object]
) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", architecture, weight_format, **knobs)
    report = check_model(path)
    assert report.unused_tensors == ()
    with GGUFFile.open(path) as file:
        required = {s.name for s in expected_tensors(report.config) if not s.optional}
        assert required <= set(file.tensors)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_expected_tensors_are_those_of_the_file_in_name_shape_and_kind(
    tmp_path: Path, architecture: str
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "Q8_0")
    with GGUFFile.open(path) as file:
        specs = {spec.name: spec for spec in expected_tensors(ModelConfig.from_gguf(file))}
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    assert set(tensors) <= set(specs)
    assert all(spec.optional for name, spec in specs.items() if name not in tensors)
    for name, tensor in tensors.items():
        assert list(specs[name].shape) == tensor.shape.tolist()
        # Routers are float32 matrices; what else is not quantized is a vector or a few of them.
        plain = tensor.tensor_type.name == "F32" and not name.endswith("ffn_gate_inp.weight")
        assert specs[name].kind == ("vector" if plain else "matrix"), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pieces_of_a_tensor_are_all_of_it(tmp_path: Path, architecture: str) -> None:
    with GGUFFile.open(write_tiny_model(tmp_path / "m.gguf", architecture, "F32")) as file:
        for spec in expected_tensors(ModelConfig.from_gguf(file)):
            if spec.parts and spec.name != "token_types.weight":  # of which the first is used
                rows = spec.shape[1] if spec.kind == "matrix" else math.prod(spec.shape)
                assert sum(size for _, size in spec.parts) == rows


def test_every_expert_matrix_has_three_dimensions(tmp_path: Path) -> None:
    path = write(tmp_path, tiny_model(experts=4))
    with GGUFFile.open(path) as file:
        specs = {s.name: s for s in expected_tensors(ModelConfig.from_gguf(file))}
    assert specs["blk.0.ffn_gate_inp.weight"].shape == (HIDDEN, 4)
    assert specs["blk.0.ffn_gate_exps.weight"].shape == (HIDDEN, FFN, 4)
    assert specs["blk.0.ffn_up_exps.weight"].shape == (HIDDEN, FFN, 4)
    assert specs["blk.0.ffn_down_exps.weight"].shape == (FFN, HIDDEN, 4)
    assert "blk.0.ffn_gate.weight" not in specs


def test_one_expert_or_one_row_need_no_trailing_dimension(tmp_path: Path) -> None:
    model = tiny_model(experts=1)
    for tensor in model.tensors:
        tensor.dims = [d for i, d in enumerate(tensor.dims) if i == 0 or d != 1]
    assert check_model(write(tmp_path, model)).config.num_experts == 1


def test_missing_tensor_is_named_with_the_number_of_others(tmp_path: Path) -> None:
    model = tiny_model().drop_tensor("blk.0.attn_k.weight").drop_tensor("blk.0.ffn_up.weight")
    with pytest.raises(ModelFileError, match=r"blk.0.attn_k.weight is missing \(and 1 more\)"):
        check_model(write(tmp_path, model))


def test_wrong_shape_tells_expected_and_found(tmp_path: Path) -> None:
    model = tiny_model()
    model.tensor("token_embd.weight").dims = [HIDDEN // 2, VOCAB * 2]
    model.drop("tokenizer.ggml.tokens").drop("llama.vocab_size")
    with pytest.raises(ModelFileError, match=r"is \[16, 16\] where .* asks for \[32, 16\]"):
        check_model(write(tmp_path, model))


def test_format_without_kernels_lists_those_that_have_them(tmp_path: Path) -> None:
    model = tiny_model()
    q = model.tensor("blk.0.attn_q.weight")
    q.type_id = 26  # I32
    with pytest.raises(UnsupportedError, match=r"stored as I32.*these are: F32, F16, BF16, Q4_0"):
        check_model(write(tmp_path, model))


def test_missing_file_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="does not exist"):
        check_model(tmp_path / "none.gguf")
