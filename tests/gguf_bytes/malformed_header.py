"""Damage to magic, version, counts, keys and values."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gguf_bytes.case import EXTREMES, EXTREMES_32, Case
from gguf_bytes.tiny import tiny_model
from gguf_bytes.writer import (
    ARRAY,
    BOOL,
    F32,
    F64,
    FORMATS,
    STRING,
    U8,
    U32,
    U64,
    array,
    elements,
    inner_array,
    scalar,
    string,
    text,
)

U32_TYPE = struct.pack("<I", U32)
ARRAY_TYPE = struct.pack("<I", ARRAY)


def header_cases() -> Iterator[Case]:
    yield from _magic()
    yield from _counts()
    yield from _keys()
    yield from _lengths()
    yield from _values()
    yield from _alignment()


def with_value(value: bytes) -> bytes:
    return tiny_model().set("my.value", value).build()


def _magic() -> Iterator[Case]:
    whole = tiny_model().build()
    kinds = {
        "empty": (b"", "the file is empty"),
        "one_byte": (b"G", "not a GGUF model"),
        "magic_only": (b"GGUF", "ends inside the version"),
        "magic_and_version": (whole[:8], "ends inside the tensor count"),
        "header_only": (whole[:24], "keys are claimed, 0 fit"),
        "swapped_magic": (b"FUGG" + whole[4:], "bytes swapped"),
        "lower_case_magic": (b"gguf" + whole[4:], "unknown data"),
        "ggml_magic": (b"lmgg" + whole[4:], "unversioned ggml"),
        "ggjt_magic": (b"tjgg" + whole[4:], "ggjt"),
        "zeros": (bytes(4096), "zeros"),
        "text": (b"Once upon a time there was a file.\n" * 9, "a text file"),
        "json": (b'{"model": "llama"}', "JSON"),
        "html": (b"<!DOCTYPE html><title>404</title>", "HTML"),
        "safetensors": (struct.pack("<Q", 40) + b'{"a":{"dtype":"F32"}}'.ljust(40), "safetensors"),
        "zip": (b"PK\x03\x04" + bytes(60), "PyTorch"),
        "pickle": (b"\x80\x02}q\x00." + bytes(9), "pickle"),
        "lfs_pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        "gzip": (b"\x1f\x8b\x08\x00" + bytes(30), "gzip"),
    }
    for name, (data, match) in kinds.items():
        yield Case(f"file_{name}", data, match)
    for name, version in {**EXTREMES_32, "4": 4, "99": 99}.items():
        model = tiny_model()
        model.version = version
        big = version == 1 << 31
        yield Case(f"version_{name}", model.build(), "big-endian" if big else "version .* is not")
    swapped = bytearray(whole)
    swapped[4:24] = struct.pack(">IQQ", 3, 11, 12)
    yield Case("version_big_endian", bytes(swapped), "big-endian")


def _counts() -> Iterator[Case]:
    for name, count in {**EXTREMES, "1e6": 10**6}.items():
        model = tiny_model()
        model.num_tensors = count
        match = {"0": "no tensors", "1": "blk|layers|missing"}.get(name, "tensors are claimed")
        yield Case(f"num_tensors_{name}", model.build(), match)
        model = tiny_model()
        model.num_pairs = count
        # The pairs that are not counted are read as tensors.
        match = {"0": "dimensions", "1": "a tensor name claims"}.get(name, "keys are claimed")
        yield Case(f"num_pairs_{name}", model.build(), match)
    for name, delta in {"one_more": 1, "one_less": -1}.items():
        model = tiny_model()
        model.num_tensors = len(model.tensors) + delta
        yield Case(f"num_tensors_{name}", model.build(), "")
        model = tiny_model()
        model.num_pairs = len(model.pairs) + delta
        yield Case(f"num_pairs_{name}", model.build(), "")


def _keys() -> Iterator[Case]:
    def with_key(raw: bytes) -> bytes:
        model = tiny_model()
        model.pairs.append((raw, scalar(U8, 1)))
        return model.build()

    yield Case("key_empty", with_key(b""), "key is empty")
    yield Case("key_invalid_utf8", with_key(b"my.\xff\xfe"), "not valid UTF-8")
    yield Case("key_surrogate", with_key(b"my.\xed\xa0\x80"), "not valid UTF-8")
    yield Case("key_nul", with_key(b"my\0key"), "NUL")
    yield Case("key_too_long", with_key(b"k" * 65536), "the limit is 65535")
    yield Case("key_longest", with_key(b"k" * 65535), None)
    model = tiny_model()
    model.pairs.append((b"k" * 60000, struct.pack("<IQ", 13, 0)))
    yield Case("key_long_bad_type", model.build(), r"key 'k{100}\.\.\.'")
    yield Case("key_twice", with_key(b"general.architecture"), "occurs twice")
    yield Case("key_twice_same", with_key(b"llama.block_count"), "occurs twice")


def _lengths() -> Iterator[Case]:
    """Lengths of keys, strings and arrays; 0 and 1 make what follows be read as something else."""
    for name, length in EXTREMES.items():
        model = tiny_model()
        model.pairs.insert(0, (b"my.value", scalar(U8, 1)))
        raw = bytearray(model.build())
        raw[24:32] = struct.pack("<Q", length)
        match = {"0": "key is empty", "1": ""}.get(name, "a metadata key claims")
        yield Case(f"length_of_key_{name}", bytes(raw), match)
        match = "" if length < 2 else "a string claims"
        value = string(b"something", length=length)
        yield Case(f"length_of_string_{name}", with_value(value), match)
        value = ARRAY_TYPE + struct.pack("<IQ", STRING, 1) + text(b"something", length=length)
        yield Case(f"array_string_length_{name}", with_value(value), match)
        for what, value_type in {"u8": U8, "f64": F64, "string": STRING, "array": ARRAY}.items():
            items = [inner_array(U8, [1])] if value_type == ARRAY else [b"a"]
            items = items if value_type in (STRING, ARRAY) else [1]
            value = array(value_type, items, count=length)
            accepted = length == 1
            match = None if accepted else "" if length == 0 else "the file ends inside an array"
            yield Case(f"array_{what}_count_{name}", with_value(value), match)
    model = tiny_model().set("my.last", string(b"abc"))
    model.tensors.clear()
    for name, delta in {"at": 0, "one_past": 1}.items():
        model.set("my.last", string(b"abc", length=3 + delta))
        match = "no tensors" if delta == 0 else "claims 4 bytes; the file has 3 left"
        yield Case(f"string_ends_{name}_the_end", model.header(), match)


def _values() -> Iterator[Case]:
    for name, type_id in {**EXTREMES_32, "13": 13, "14": 14, "255": 255}.items():
        if type_id > 12:
            value = struct.pack("<I", type_id) + bytes(8)
            yield Case(f"value_type_{name}", with_value(value), "unknown metadata value type")
            value = ARRAY_TYPE + struct.pack("<IQ", type_id, 0)
            yield Case(f"array_type_{name}", with_value(value), "unknown metadata value type")
    for value_type in FORMATS:
        model = tiny_model().set("my.value", scalar(value_type, 1))
        yield Case(f"value_of_type_{value_type}", model.build(), None)
        model.set("my.value", array(value_type, [1, 0, 1]))
        yield Case(f"array_of_type_{value_type}", model.build(), None)
        model.set("my.value", array(value_type, []))
        yield Case(f"empty_array_of_type_{value_type}", model.build(), None)
    yield Case("bool_2", with_value(scalar(BOOL, 2)), "neither 0 nor 1")
    yield Case("array_bool_2", with_value(array(BOOL, [0, 1, 2])), "neither 0 nor 1")
    yield Case("string_invalid_utf8", with_value(string(b"\xff")), None)
    yield Case("string_embedded_nul", with_value(string(b"a\0b")), None)
    yield Case("string_empty", with_value(string(b"")), None)
    yield Case("float_nan_unused", with_value(scalar(F32, float("nan"))), None)
    nested = inner_array(U8, [1])
    for depth in range(2, 7):
        value = ARRAY_TYPE + struct.pack("<IQ", ARRAY, 1) + nested
        match = None if depth <= 4 else "nested more than 4"
        yield Case(f"array_depth_{depth}", with_value(value), match)
        nested = struct.pack("<IQ", ARRAY, 1) + nested
    deep = ARRAY_TYPE + struct.pack("<IQ", ARRAY, 1) * 5000 + inner_array(U8, [1])
    yield Case("array_depth_5000", with_value(deep), "nested more than 4")
    inner = [inner_array(STRING, ["a", "bc"]), inner_array(U32, [7])]
    yield Case("array_of_mixed_arrays", with_value(array(ARRAY, inner)), None)
    strings = ARRAY_TYPE + struct.pack("<IQ", STRING, 3) + elements(STRING, ["a", "b"])
    yield Case("array_one_string_short", with_value(strings), "")


def _alignment() -> Iterator[Case]:
    key = "general.alignment"
    for power in (1, 2, 8, 32, 64, 4096, 65536):
        model = tiny_model().set(key, scalar(U32, power))
        model.alignment = power
        yield Case(f"alignment_{power}", model.build(), None)
    for value in (0, 3, 7, 31, 33, 48, 131072, 1 << 31, (1 << 32) - 1):
        match = "power of two" if value in (3, 7, 31, 33, 48) else "outside of 1 to 65536"
        yield Case(f"alignment_{value}", tiny_model().set(key, scalar(U32, value)).build(), match)
    wrong = {"u8": scalar(U8, 32), "u64": scalar(U64, 32), "f32": scalar(F32, 32.0)}
    wrong |= {"string": string("32"), "array": array(U32, [32]), "bool": scalar(BOOL, 1)}
    for name, value in wrong.items():
        yield Case(f"alignment_as_{name}", tiny_model().set(key, value).build(), "not u32")
    model = tiny_model().set(key, scalar(U32, 64))
    model.tensors[0].data += bytes(32)
    yield Case("alignment_64_offsets_32", model.build(), "no multiple of 64|gap")
