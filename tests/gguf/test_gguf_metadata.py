"""Typed access to metadata: right values, and errors that name key and offset."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gguf_bytes.tiny import tiny_model
from gguf_bytes.writer import (
    ARRAY,
    BOOL,
    F32,
    F64,
    FORMATS,
    I8,
    I16,
    I64,
    STRING,
    U8,
    U32,
    U64,
    array,
    inner_array,
    scalar,
    string,
)
from rocmforge.errors import ModelFileError
from rocmforge.gguf import GGUFFile, Metadata

Read = Callable[[bytes], Metadata]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def metadata_with(value: bytes) -> Metadata:
        path = tmp_path / "model.gguf"
        path.write_bytes(tiny_model().set("my.key", value).build())
        with GGUFFile.open(path) as file:
            return file.metadata

    return metadata_with


LARGEST = {
    U8: 255,
    I8: -128,
    I16: -32768,
    U32: 2**32 - 1,
    U64: 2**64 - 1,
    I64: -(2**63),
}


@pytest.mark.parametrize(("value_type", "value"), LARGEST.items())
def test_integers_of_every_width_come_back_exactly(read: Read, value_type: int, value: int) -> None:
    metadata = read(scalar(value_type, value))
    assert metadata["my.key"] == value
    assert metadata.uint("my.key", minimum=-(2**63)) == value


def test_floats_bools_and_strings_come_back_as_they_are(read: Read) -> None:
    assert read(scalar(F64, math.pi)).float("my.key") == math.pi
    assert read(scalar(F32, 0.5)).float("my.key") == 0.5
    assert read(scalar(BOOL, 1)).bool("my.key") is True
    assert read(scalar(BOOL, 0))["my.key"] is False
    assert read(string("a\0b é 😀")).string("my.key") == "a\0b é 😀"


def test_absent_keys_give_the_default_or_an_error(read: Read) -> None:
    metadata = read(scalar(U8, 1))
    assert metadata.uint("no.key", 7) == 7
    assert metadata.uint("no.key", None) is None
    assert metadata.float("no.key", 1.5) == 1.5
    assert metadata.bool("no.key", True) is True
    assert metadata.string("no.key", "x") == "x"
    assert metadata.count("no.key") is None
    assert not metadata.is_array("no.key")
    getters = (metadata.uint, metadata.float, metadata.bool, metadata.string, metadata.strings)
    for getter in (*getters, metadata.byte_strings, metadata.ints, metadata.floats):
        with pytest.raises(ModelFileError, match="required metadata key is missing") as caught:
            getter("no.key")
        assert caught.value.key == "no.key"
    with pytest.raises(KeyError):
        metadata["no.key"]


SCALARS: dict[str, bytes] = {
    "integer": scalar(U32, 1),
    "float": scalar(F32, 1.0),
    "bool": scalar(BOOL, 1),
    "string": string("1"),
    "strings": array(STRING, ["1"]),
    "integers": array(U8, [1]),
    "floats": array(F64, [1.0]),
    "bools": array(BOOL, [1]),
    "arrays": array(ARRAY, [inner_array(U8, [1])]),
}
GETTERS = {
    "uint": {"integer"},
    "float": {"float"},
    "bool": {"bool"},
    "string": {"string"},
    "strings": {"strings"},
    "byte_strings": {"strings"},
    "ints": {"integers"},
    "floats": {"floats"},
    "count": {"strings", "integers", "floats", "bools", "arrays"},
}


@pytest.mark.parametrize("getter", GETTERS)
@pytest.mark.parametrize("kind", SCALARS)
def test_getters_take_values_of_their_type_alone(read: Read, getter: str, kind: str) -> None:
    metadata = read(SCALARS[kind])
    if kind in GETTERS[getter]:
        getattr(metadata, getter)("my.key")
        return
    with pytest.raises(ModelFileError, match=r"the value is .*, not a") as caught:
        getattr(metadata, getter)("my.key")
    assert caught.value.key == "my.key"


def test_errors_tell_the_offset_of_the_value(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    data = tiny_model().set("my.key", string("not a number")).build()
    path.write_bytes(data)
    with GGUFFile.open(path) as file, pytest.raises(ModelFileError) as caught:
        file.metadata.uint("my.key")
    assert caught.value.offset == data.index(b"my.key") + len("my.key")


@pytest.mark.parametrize(("minimum", "maximum"), [(6, 9), (1, 4), (0, 0)])
def test_numbers_out_of_range_are_refused(read: Read, minimum: int, maximum: int) -> None:
    limits: dict[str, Any] = {"minimum": minimum, "maximum": maximum}
    with pytest.raises(ModelFileError, match=rf"5 is outside of {minimum} to {maximum}"):
        read(scalar(U8, 5)).uint("my.key", **limits)
    with pytest.raises(ModelFileError, match=r"5.0 is outside"):
        read(scalar(F32, 5)).float("my.key", **limits)
    with pytest.raises(ModelFileError, match="5 is outside"):
        read(array(U8, [minimum, 5, maximum])).ints("my.key", **limits)


def test_range_limits_themselves_are_in_range(read: Read) -> None:
    assert read(scalar(U8, 5)).uint("my.key", minimum=5, maximum=5) == 5
    assert read(scalar(F32, 5)).float("my.key", minimum=5, maximum=5) == 5
    assert read(array(U8, [5, 6])).ints("my.key", minimum=5, maximum=6).tolist() == [5, 6]


def test_negative_numbers_are_no_counts(read: Read) -> None:
    with pytest.raises(ModelFileError, match="-1 is outside of 0"):
        read(scalar(I8, -1)).uint("my.key")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(read: Read, number: float) -> None:
    with pytest.raises(ModelFileError, match="not a finite number"):
        read(scalar(F32, number)).float("my.key")
    with pytest.raises(ModelFileError, match=r"element 1 is .*, not a finite number"):
        read(array(F32, [0.0, number])).floats("my.key")


def test_integers_above_int64_are_refused_in_arrays(read: Read) -> None:
    metadata = read(array(U64, [2**63]))
    with pytest.raises(ModelFileError, match="9223372036854775808 is outside"):
        metadata.ints("my.key", maximum=2**64)
    assert metadata["my.key"].tolist() == [2**63]


def test_numeric_arrays_come_back_in_wide_types(read: Read) -> None:
    ints = read(array(I8, [-1, 2])).ints("my.key")
    floats = read(array(F32, [0.5, 1.5])).floats("my.key")
    assert (ints.dtype, ints.tolist()) == (np.int64, [-1, 2])
    assert (floats.dtype, floats.tolist()) == (np.float64, [0.5, 1.5])


def test_empty_arrays_of_every_type_are_empty(read: Read) -> None:
    for value_type in FORMATS:
        assert len(read(array(value_type, []))["my.key"]) == 0
    assert read(array(STRING, [])).strings("my.key") == []
    assert read(array(U8, [])).ints("my.key").size == 0


def test_string_arrays_decode_strictly_for_use_and_leniently_for_show(read: Read) -> None:
    metadata = read(array(STRING, [b"ok", b"\xff\x41"]))
    assert metadata["my.key"] == ["ok", "\ufffdA"]
    assert metadata.byte_strings("my.key") == [b"ok", b"\xff\x41"]
    with pytest.raises(ModelFileError, match="string 1 of the array is not valid UTF-8"):
        metadata.strings("my.key")


def test_single_strings_decode_strictly_for_use_and_leniently_for_show(read: Read) -> None:
    metadata = read(string(b"\xff"))
    assert metadata["my.key"] == "\ufffd"
    with pytest.raises(ModelFileError, match="not valid UTF-8"):
        metadata.string("my.key")


def test_nested_arrays_come_back_nested(read: Read) -> None:
    numbers, doubles = inner_array(U32, [1, 2]), inner_array(F64, [0.5, 1.5, 2.5])
    deep = inner_array(ARRAY, [inner_array(STRING, ["a", "bc"]), numbers, doubles])
    value = read(array(ARRAY, [deep, inner_array(STRING, []), doubles]))["my.key"]
    assert value[0][0] == ["a", "bc"]
    assert value[0][1].tolist() == [1, 2]
    assert value[0][2].tolist() == [0.5, 1.5, 2.5]
    assert value[1] == []
    assert value[2].tolist() == [0.5, 1.5, 2.5]


def test_type_names_tell_element_type_and_count(read: Read) -> None:
    assert read(scalar(U32, 1)).type_name("my.key") == "u32"
    assert read(array(STRING, ["a", "b"])).type_name("my.key") == "string[2]"
    assert read(array(STRING, ["a", "b"])).count("my.key") == 2


def test_metadata_is_a_mapping_in_the_order_of_the_file(read: Read) -> None:
    metadata = read(scalar(U8, 1))
    keys = [key.decode() for key, _ in tiny_model().pairs] + ["my.key"]
    assert list(metadata) == keys
    assert len(metadata) == len(keys)
    assert "my.key" in metadata
    assert metadata.get("no.key") is None


def test_metadata_outlives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_model().build())
    with GGUFFile.open(path) as file:
        metadata = file.metadata
    path.unlink()
    assert metadata.strings("tokenizer.ggml.tokens")[:2] == ["<0>", "<1>"]
