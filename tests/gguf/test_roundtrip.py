"""Random valid files: our reader against the gguf package's writer and reader."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_bytes.writer import FORMATS, STRING, GGUFBytes, Tensor, array, scalar, string
from rocmforge.gguf import GGUFFile, TensorType

VALUE_TYPES = {t.name: t for t in gguf.GGUFValueType}
INTEGERS = {"UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64}
INTEGERS |= {"INT8": -8, "INT16": -16, "INT32": -32, "INT64": -64}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789._", min_size=1, max_size=40)


def numbers(kind: str) -> st.SearchStrategy[Any]:
    if kind == "BOOL":
        return st.booleans()
    if kind.startswith("FLOAT"):
        return st.floats(width=int(kind[5:]), allow_nan=False)
    bits = INTEGERS[kind]
    return (
        st.integers(0, 2**bits - 1)
        if bits > 0
        else st.integers(-(2 ** (-bits - 1)), 2 ** (-bits - 1) - 1)
    )


def single(kind: str) -> st.SearchStrategy[Any]:
    return texts if kind == "STRING" else numbers(kind)


KINDS = [*INTEGERS, "FLOAT32", "FLOAT64", "BOOL", "STRING"]
values = st.sampled_from(KINDS).flatmap(lambda k: st.tuples(st.just(k), single(k)))
# The package cannot write an empty array: it takes the element type from the first element.
arrays = st.sampled_from(["UINT8", "INT32", "FLOAT32", "STRING", "BOOL", "UINT64"]).flatmap(
    lambda k: st.tuples(st.just(k), st.lists(single(k), min_size=1, max_size=9))
)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[gguf.GGMLQuantizationType, list[int]]:
    kind = draw(st.sampled_from([t for t in gguf.GGML_QUANT_SIZES if t.name != "Q8_1"]))
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    dims = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    return kind, [dims[0] * block, *dims[1:]]


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray):
        return ours.tolist() == list(theirs)
    return type(ours) is type(theirs) and ours == theirs


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.dictionaries(names, values, max_size=12),
    lists=st.dictionaries(names.map(lambda n: "list." + n), arrays, max_size=6),
    infos=st.dictionaries(names, tensors(), max_size=8),
    alignment=st.sampled_from([8, 32, 128]),
)
def test_what_the_gguf_package_writes_is_read_back(
    pairs: dict[str, tuple[str, Any]],
    lists: dict[str, tuple[str, list[Any]]],
    infos: dict[str, tuple[gguf.GGMLQuantizationType, list[int]]],
    alignment: int,
) -> None:
    rng = np.random.default_rng(len(pairs))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(path, "test")
        writer.add_custom_alignment(alignment)
        for key, (kind, value) in pairs.items():
            writer.add_key_value("my." + key, value, VALUE_TYPES[kind])
        for key, (kind, items) in lists.items():
            writer.add_key_value(key, items, gguf.GGUFValueType.ARRAY, VALUE_TYPES[kind])
        contents = {}
        for name, (kind, dims) in infos.items():
            block, nbytes = gguf.GGML_QUANT_SIZES[kind]
            row = dims[0] // block * nbytes
            contents[name] = rng.integers(0, 256, [*dims[:0:-1], row], np.uint8)
            writer.add_tensor(name, contents[name], raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

        with GGUFFile.open(path) as file:
            assert file.alignment == alignment
            expected = {"my." + key: value for key, (_, value) in pairs.items()}
            expected |= {key: items for key, (_, items) in lists.items()}
            assert set(file.metadata) >= set(expected)
            for key, value in expected.items():
                assert same(file.metadata[key], value), key
            assert list(file.tensors) == list(infos)
            for name, (kind, dims) in infos.items():
                tensor = file.tensors[name]
                assert (tensor.type, list(tensor.shape)) == (TensorType[kind.name], dims)
                assert bytes(file.tensor_data(name)) == contents[name].tobytes()


raw_values = st.sampled_from(list(FORMATS)).flatmap(
    lambda t: st.tuples(st.just(t), st.lists(numbers(gguf.GGUFValueType(t).name), min_size=1))
)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.dictionaries(names, raw_values, max_size=8),
    strings=st.lists(texts, min_size=1, max_size=8),
    shapes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), max_size=5),
)
def test_both_readers_see_the_same_in_files_of_the_tests_own_writer(
    pairs: dict[str, tuple[int, list[Any]]], strings: list[str], shapes: list[list[int]]
) -> None:
    model = GGUFBytes().set("general.architecture", string("test"))
    for key, (value_type, items) in pairs.items():
        model.set("one." + key, scalar(value_type, items[0]))
        model.set("many." + key, array(value_type, items))
    model.set("strings", array(STRING, strings))
    for i, dims in enumerate(shapes):
        count = int(np.prod(dims))
        data = np.arange(count, dtype="<f4").tobytes()
        model.tensors.append(Tensor(b"tensor%d" % i, dims, data))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(model.build())
        theirs = gguf.GGUFReader(path)
        with GGUFFile.open(path) as file:
            for key in file.metadata:
                assert same(file.metadata[key], theirs.fields[key].contents()), key
            assert len(file.tensors) == len(theirs.tensors) == len(shapes)
            for other in theirs.tensors:
                tensor = file.tensors[other.name]
                assert list(tensor.shape) == other.shape.tolist()
                assert (tensor.offset, tensor.nbytes) == (other.data_offset, other.n_bytes)
                assert (file.tensor_data(other.name).view("<f4") == other.data.ravel()).all()
