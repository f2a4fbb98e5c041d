"""Which format each tensor gets, against what llama.cpp chose (reference/record_mixes.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reference import mix_cases
from reference.mix_cases import compact
from rocmforge import _native
from rocmforge.errors import InvalidArgumentError
from rocmforge.gguf import GGUFFile
from rocmforge.model.quantization_mix import Mix
from rocmforge.model.quantization_types import ALIASES, FALLBACK, TYPES, more_bits, type_named

RECORD = json.loads((Path(mix_cases.__file__).with_name("peer_mixes.json")).read_text())["mixes"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mixes")
    paths = {name: folder / f"{i}.gguf" for i, name in enumerate(mix_cases.CASES)}
    for name, path in paths.items():
        path.write_bytes(mix_cases.CASES[name].build())
    return paths


def formats(path: Path, type_name: str, **knobs: bool) -> dict[str, str]:
    knobs = {"has_importance": False, "pure": False} | knobs
    with GGUFFile.open(path) as file:
        mix = Mix(file, type_named(type_name)[1], **knobs)
        return {name: mix.format_of(tensor).name for name, tensor in file.tensors.items()}


@pytest.mark.parametrize("case", RECORD)
@pytest.mark.parametrize("type_name", [name for name in TYPES if name in RECORD["phi3"]])
def test_the_mix_is_that_of_llama_cpp(files: dict[str, Path], case: str, type_name: str) -> None:
    assert compact(formats(files[case], type_name).items()) == RECORD[case][type_name]


def test_the_record_covers_every_type_but_those_that_want_an_importance_matrix() -> None:
    recorded = {ALIASES.get(name, name) for name in RECORD["phi3"]}
    assert set(TYPES) - recorded <= {"Q2_K_S"}


def test_mxfp4_is_for_experts(files: dict[str, Path]) -> None:
    expected = RECORD["qwen3moe"]["MXFP4_MOE"]
    assert compact(formats(files["qwen3moe"], "MXFP4_MOE").items()) == expected
    assert expected["ffn_down_exps.weight"] == "MXFP4"
    assert expected["attn_q.weight"] == "Q8_0"


def test_an_importance_matrix_changes_the_first_eighth(files: dict[str, Path]) -> None:
    path = files["llama, few heads a KV head"]
    for name, better in (("Q4_0", "Q4_1"), ("Q5_0", "Q5_1")):
        known = compact(formats(path, name, has_importance=True).items())
        assert known["ffn_down.weight"] == " ".join([better] * 2 + [name] * 18)
    for name in ("IQ4_NL", "IQ4_XS"):
        known = compact(formats(path, name, has_importance=True).items())
        assert known["ffn_down.weight"] == name


def test_pure_is_one_format_with_its_stand_ins_for_odd_rows(files: dict[str, Path]) -> None:
    known = compact(formats(files["llama, narrow rows"], "Q4_K_M", pure=True).items())
    assert known["ffn_down.weight"] == known["output.weight"] == "Q5_0"
    assert {known["token_embd.weight"], known["attn_output.weight"]} == {"Q4_K"}
    assert known["attn_norm.weight"] == "F32"


def test_every_third_layer_between_the_outer_eighths_gets_more_bits() -> None:
    assert [i for i in range(16) if more_bits(i, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]


def test_names_are_found_in_any_case_and_unknown_ones_refused_with_the_list() -> None:
    assert type_named("q4_k")[0] == "Q4_K_M"
    with pytest.raises(InvalidArgumentError, match=r"'Q7' is none of F32, F16, .*MXFP4"):
        type_named("Q7")


def test_every_readable_format_can_be_written() -> None:
    assert {chosen.format for chosen in TYPES.values()} == set(_native.FORMATS)
    assert set(FALLBACK.values()) <= set(_native.FORMATS)
