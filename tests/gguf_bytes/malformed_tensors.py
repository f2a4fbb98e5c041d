"""Damage to tensor descriptions and to the data section."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gguf_bytes.case import EXTREMES, EXTREMES_32, Case
from gguf_bytes.tiny import f32_tensor, tiny_model
from gguf_bytes.writer import GGUFBytes, Tensor

Q = "blk.0.attn_q.weight"
LAST = "blk.0.ffn_down.weight"
GONE_OR_UNKNOWN = (4, 5, 31, 32, 33, 36, 37, 38, 42, 99)


def tensor_cases() -> Iterator[Case]:
    yield from _names()
    yield from _shapes()
    yield from _types()
    yield from _offsets()
    yield from _data()


def changed(change: Callable[[Tensor], None], name: str = Q) -> bytes:
    model = tiny_model()
    change(model.tensor(name))
    return model.build()


def _names() -> Iterator[Case]:
    def renamed(name: bytes) -> bytes:
        model = tiny_model()
        model.tensors.append(f32_tensor("x", 8))
        model.tensors[-1].name = name
        return model.build()

    yield Case("name_empty", renamed(b""), "tensor name is empty")
    yield Case("name_63_bytes", renamed(b"n" * 63), None)
    yield Case("name_64_bytes", renamed(b"n" * 64), "the limit is 63")
    yield Case("name_200_bytes", renamed(b"n" * 200), "the limit is 63")
    yield Case("name_invalid_utf8", renamed(b"\xc3\x28"), "not valid UTF-8")
    yield Case("name_nul", renamed(b"a\0b"), "NUL")
    yield Case("name_twice", renamed(b"token_embd.weight"), "occurs twice")
    yield Case("name_unknown", renamed(b"my.extra"), None)
    yield Case("name_with_line_break", renamed(b"my\nextra"), None)
    for name, length in EXTREMES.items():
        if length < 2:
            continue
        raw = bytearray(tiny_model().build())
        start = raw.index(Q.encode()) - 8
        raw[start : start + 8] = length.to_bytes(8, "little")
        yield Case(f"name_length_{name}", bytes(raw), "a tensor name claims")


def _shapes() -> Iterator[Case]:
    for name, num_dims in {**EXTREMES_32, "5": 5, "9": 9}.items():
        if num_dims == 1:
            continue

        def lie(t: Tensor, num_dims: int = num_dims) -> None:
            t.num_dims = num_dims

        yield Case(f"num_dims_{name}", changed(lie), "dimensions; 1 to 4")

    def five(t: Tensor) -> None:
        t.dims = [32, 32, 1, 1, 1]

    def ones(t: Tensor) -> None:
        t.dims = [32, 32, 1, 1]

    yield Case("num_dims_5_with_dims", changed(five), "5 dimensions")
    yield Case("dims_trailing_ones", changed(ones), None)
    for axis in (0, 1):
        for name, dim in EXTREMES.items():

            def resize(t: Tensor, axis: int = axis, dim: int = dim) -> None:
                t.dims[axis] = dim

            match = "gap" if dim == 1 else "is not possible|the file at"
            yield Case(f"dim_{axis}_{name}", changed(resize), match)
    products = {
        # Elements or bytes that wrap to something small in 64 bits.
        "elements_wrap_to_0": [1 << 33, 1 << 31],
        "elements_wrap_to_16": [(1 << 33) - 4, (1 << 33) - 4],
        "elements_2p62": [1 << 62],
        "bytes_wrap_with_padding": [(1 << 62) - 4],
        "four_dims_wrap": [1 << 16, 1 << 16, 1 << 16, 1 << 16],
        "exabytes": [1 << 30, 1 << 30],
        "4_tib": [1 << 20, 1 << 20],
    }
    for name, dims in products.items():

        def reshape(t: Tensor, dims: list[int] = dims) -> None:
            t.dims = list(dims)

        # ggml's own limit is 2^63 - 1 elements.
        match = "is not possible" if "wrap_to" in name or "four" in name else "the file at"
        yield Case(f"dims_{name}", changed(reshape), match)


def _types() -> Iterator[Case]:
    ids = {str(i): i for i in GONE_OR_UNKNOWN} | {
        name: i for name, i in EXTREMES_32.items() if i > 41
    }
    for name, type_id in ids.items():

        def retype(t: Tensor, type_id: int = type_id) -> None:
            t.type_id = type_id

        yield Case(f"type_{name}", changed(retype), f"unknown tensor type {type_id}")

    def stored_as(type_id: int, nbytes: int) -> Callable[[Tensor], None]:
        def change(t: Tensor) -> None:
            t.type_id, t.data = type_id, bytes(nbytes)

        return change

    yield Case("type_q4_k_row_32", changed(stored_as(12, 576)), "not a whole number of Q4_K")
    yield Case("type_q8_0_fits", changed(stored_as(8, 32 * 34)), None)
    yield Case("type_f16_fits", changed(stored_as(1, 32 * 32 * 2)), None)
    yield Case("type_i32_weight", changed(stored_as(26, 4096)), "stored as I32.*these are: F32")
    yield Case("type_f64_weight", changed(stored_as(28, 8192)), "stored as F64")
    yield Case("type_q8_1_weight", changed(stored_as(9, 32 * 36)), "stored as Q8_1")
    norm = "output_norm.weight"
    yield Case("type_norm_q8_0", changed(stored_as(8, 34), norm), "stored as Q8_0")
    yield Case("type_norm_f16", changed(stored_as(1, 64), norm), None)
    yield Case("type_norm_i8", changed(stored_as(24, 32), norm), "stored as I8")

    def smaller(t: Tensor) -> None:
        t.type_id = 8

    yield Case("type_changed_size", changed(smaller), "follows a gap")

    def larger(t: Tensor) -> None:
        t.type_id = 28

    yield Case("type_changed_larger", changed(larger), "overlaps")


def _offsets() -> Iterator[Case]:
    for name, offset in EXTREMES.items():

        def move(t: Tensor, offset: int = offset) -> None:
            t.offset = offset

        match = {"0": "overlaps", "1": "no multiple"}.get(name, "the file at|no multiple")
        yield Case(f"offset_{name}", changed(move), match)
        if name != "0":
            yield Case(f"last_offset_{name}", changed(move, LAST), match)
    first = tiny_model().tensors[0]
    aligned = len(first.data)
    for name, offset in {"unaligned": aligned + 1, "overlap_by_32": aligned - 32}.items():

        def shift(t: Tensor, offset: int = offset) -> None:
            t.offset = offset

        match = "no multiple" if name == "unaligned" else "overlaps"
        yield Case(f"offset_{name}", changed(shift, "output_norm.weight"), match)
    yield Case("offset_first_not_0", _first_at(32), "overlaps|follows a gap")
    yield Case("offsets_descending", _descending(), None)
    yield Case("offsets_all_0", _all_at_0(), "overlaps")


def _first_at(offset: int) -> bytes:
    model = tiny_model()
    model.tensors[0].offset = offset
    return model.build()


def _descending() -> bytes:
    """Data in the reverse of the header's order: unusual, but whole."""
    model = tiny_model()
    place = 0
    for tensor in reversed(model.tensors):
        tensor.offset = place
        place += -(-len(tensor.data) // 32) * 32
    header = model.header()
    data = b"".join(t.data.ljust(-(-len(t.data) // 32) * 32, b"\0") for t in model.tensors[::-1])
    return header.ljust(-(-len(header) // 32) * 32, b"\0") + data


def _all_at_0() -> bytes:
    model = tiny_model()
    for tensor in model.tensors:
        tensor.offset = 0
    return model.build()


def _data() -> Iterator[Case]:
    model = tiny_model()
    whole = model.build()
    size = len(model.header())
    yield Case("data_missing", whole[: -(-size // 32) * 32], "is it truncated")
    yield Case("data_cut_in_padding", whole[:size], "is it truncated")
    yield Case("data_one_byte_short", whole[:-1], "is it truncated")
    yield Case("data_with_tail", whole + b"\xff" * 400, None)
    yield Case("data_without_last_padding", _unpadded(), None)
    for name, pattern in {"nan": b"\0\0\xc0\x7f", "inf": b"\0\0\x80\x7f"}.items():

        def fill(t: Tensor, pattern: bytes = pattern) -> None:
            t.data = pattern * (len(t.data) // 4)

        yield Case(f"data_{name}_weights", changed(fill), None)


def _unpadded() -> bytes:
    model: GGUFBytes = tiny_model()
    model.tensors.append(f32_tensor("my.extra", 3))
    return model.build()[: -(32 - 12)]
