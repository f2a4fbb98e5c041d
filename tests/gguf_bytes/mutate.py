"""Random damage that knows where the fields of a GGUF header are."""

from __future__ import annotations

import random
import struct

from gguf_bytes.case import EXTREMES
from gguf_bytes.tiny import f32_tensor, tiny_model
from gguf_bytes.writer import (
    ARRAY,
    BOOL,
    F32,
    F64,
    FORMATS,
    I32,
    STRING,
    U8,
    U32,
    GGUFBytes,
    array,
    inner_array,
    scalar,
    string,
)

NUMBERS = [*EXTREMES.values(), 2, 3, 7, 8, 31, 32, 33, 64, 255, 256, 65535, 65536, (1 << 31) - 1]
STRINGS = [b"", b"\0", b"\xff", b"yarn", b"llama3", b"qwen2", b"x" * 300, "\u00e9".encode()]
KEYS = ["general.alignment", "general.type", "split.count", "llama.expert_count"]


def rich_model() -> GGUFBytes:
    """Two layers and every type of value; a header of a little over 4 KiB."""
    model = tiny_model(layers=2)
    model.set("general.name", string("rich"))
    model.set("general.alignment", scalar(U32, 32))
    for value_type in FORMATS:
        model.set(f"my.scalar.{value_type}", scalar(value_type, 1))
        model.set(f"my.array.{value_type}", array(value_type, [0, 1, 1]))
    nested = [inner_array(STRING, ["a", "bc"]), inner_array(ARRAY, [inner_array(U8, [1, 2])])]
    model.set("my.nested", array(ARRAY, nested))
    model.set("my.strings", array(STRING, [f"token{i}" for i in range(40)]))
    model.set("llama.rope.scaling.type", string("yarn"))
    model.set("llama.rope.scaling.factor", scalar(F32, 4.0))
    model.set("llama.rope.scaling.original_context_length", scalar(U32, 32))
    model.set("tokenizer.ggml.scores", array(F32, [0.5] * 8))
    model.set("tokenizer.ggml.token_type", array(I32, [1] * 8))
    model.set("tokenizer.chat_template", string("{{ messages }}" * 60))
    model.tensors.append(f32_tensor("rope_freqs.weight", 4))
    return model


def mutant(rng: random.Random) -> bytes:
    """A model with one to three faults in its fields, sometimes in its bytes too."""
    model = rich_model() if rng.random() < 0.5 else tiny_model(rng.choice(["llama", "qwen3"]))
    for _ in range(rng.randint(1, 3)):
        rng.choice([_damage_counts, _damage_pair, _damage_tensor])(model, rng)
    data = bytearray(model.build())
    while data and rng.random() < 0.4:
        _damage_bytes(data, rng)
    return bytes(data)


def _damage_counts(model: GGUFBytes, rng: random.Random) -> None:
    field = rng.choice(["version", "num_tensors", "num_pairs", "alignment"])
    if field == "version":
        model.version = rng.choice([2, 3, 3, rng.getrandbits(32)])
    elif field == "alignment":
        model.alignment = rng.choice([1, 8, 16, 32, 64])
    else:
        right = len(model.tensors if field == "num_tensors" else model.pairs)
        setattr(model, field, rng.choice([*NUMBERS, right - 1, right + 1]))


def _damage_pair(model: GGUFBytes, rng: random.Random) -> None:
    if not model.pairs:
        return
    index = rng.randrange(len(model.pairs))
    key, value = model.pairs[index]
    kind = rng.randrange(6)
    if kind == 0:
        del model.pairs[index]
    elif kind == 1:
        model.pairs.append((key, value))
    elif kind == 2:
        model.pairs[index] = (rng.choice([*STRINGS, *(k.encode() for k in KEYS)]), value)
    elif kind == 3:
        model.pairs[index] = (key, struct.pack("<I", rng.randrange(16)) + value[4:])
    elif kind == 4 and len(value) > 12:
        # The length of a string or the type and count of an array.
        at = 4 if value[0] == STRING else rng.choice([4, 8])
        lie = struct.pack("<Q", rng.choice(NUMBERS))
        model.pairs[index] = (key, value[:at] + lie + value[at + 8 :])
    else:
        model.pairs[index] = (key, _value(rng))


def _value(rng: random.Random) -> bytes:
    value_type = rng.choice([*FORMATS, STRING, ARRAY])
    if value_type == STRING:
        return string(rng.choice(STRINGS))
    if value_type == ARRAY:
        return array(STRING, [rng.choice(STRINGS) for _ in range(rng.randrange(5))])
    if value_type in (F32, F64):
        return scalar(value_type, rng.choice([0.0, -1.0, 1e-45, float("nan"), float("inf"), 1e30]))
    if value_type == BOOL:
        return scalar(BOOL, rng.randrange(3))
    size = struct.calcsize(FORMATS[value_type])
    raw = (rng.choice(NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return struct.pack("<I", value_type) + raw


def _damage_tensor(model: GGUFBytes, rng: random.Random) -> None:
    if not model.tensors:
        return
    index = rng.randrange(len(model.tensors))
    tensor = model.tensors[index]
    kind = rng.randrange(7)
    if kind == 0:
        del model.tensors[index]
    elif kind == 1:
        tensor.name = rng.choice([*STRINGS, b"x" * 64, model.tensors[0].name, b"blk.7.x"])
    elif kind == 2 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif kind == 3:
        tensor.dims = [rng.choice([*NUMBERS, 16, 32, 64]) for _ in range(rng.randrange(6))]
    elif kind == 4:
        tensor.type_id = rng.choice([*range(45), *NUMBERS]) & 0xFFFFFFFF
    elif kind == 5:
        tensor.offset = rng.choice([*NUMBERS, 32 * rng.randrange(2000)])
    else:
        tensor.num_dims = rng.choice(NUMBERS) & 0xFFFFFFFF


def _damage_bytes(data: bytearray, rng: random.Random) -> None:
    kind = rng.randrange(4)
    at = rng.randrange(min(len(data), 6000))
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at : at + 8] = struct.pack("<Q", rng.choice(NUMBERS))
    else:
        source = rng.randrange(len(data))
        data[at:at] = data[source : source + rng.randrange(64)]
