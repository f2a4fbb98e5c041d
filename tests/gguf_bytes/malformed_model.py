"""Files in good form whose hyper-parameters or tensors make no model."""

from __future__ import annotations

from collections.abc import Iterator

from gguf_bytes.case import Case
from gguf_bytes.tiny import FFN, HIDDEN, SIZES, VOCAB, f32_tensor, tiny_model
from gguf_bytes.writer import (
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U32,
    U64,
    GGUFBytes,
    array,
    scalar,
    string,
)

EPS = "llama.attention.layer_norm_rms_epsilon"
BASE = "llama.rope.freq_base"
REQUIRED = (
    "general.architecture",
    "llama.context_length",
    "llama.embedding_length",
    "llama.block_count",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    EPS,
)


def model_cases() -> Iterator[Case]:
    yield from _required()
    yield from _wrong_types()
    yield from _numbers()
    yield from _rope()
    yield from _vocabulary()
    yield from _experts()
    yield from _tensors()


def _with(key: str, value: bytes, model: GGUFBytes | None = None) -> bytes:
    return (model or tiny_model()).set(key, value).build()


def _required() -> Iterator[Case]:
    for key in REQUIRED:
        match = f"required metadata key is missing .*{key}"
        yield Case(f"missing_{key}", tiny_model().drop(key).build(), match)
    optional = ("vocab_size", "rope.dimension_count", "rope.freq_base")
    for name in optional:
        yield Case(f"without_{name}", tiny_model().drop(f"llama.{name}").build(), None)
    without_kv = tiny_model().drop("llama.attention.head_count_kv").build()
    yield Case("without_head_count_kv", without_kv, "attn_k.weight is")
    yield Case("arch_unknown", _with("general.architecture", string("gpt9")), "'gpt9' is not")
    yield Case("arch_empty", _with("general.architecture", string("")), "'' is not supported")
    long = _with("general.architecture", string("x" * 100000))
    yield Case("arch_100000_letters", long, r"architecture '[x.]{20,40}' is not")
    yield Case("arch_not_utf8", _with("general.architecture", string(b"\xff")), "UTF-8")
    yield Case("arch_other_prefix", _with("general.architecture", string("qwen3")), "missing")
    for kind in ("adapter", "mmproj", "imatrix"):
        yield Case(f"type_{kind}", _with("general.type", string(kind)), f"of type '{kind}'")
    yield Case("name_not_utf8", _with("general.name", string(b"\xfe")), None)
    yield Case("bidirectional", _with("llama.attention.causal", scalar(BOOL, 0)), None)
    yield Case("causal", _with("llama.attention.causal", scalar(BOOL, 1)), None)


def _wrong_types() -> Iterator[Case]:
    values = {
        "string": string("1"),
        "float": scalar(F32, 1.0),
        "bool": scalar(BOOL, 1),
        "negative": scalar(I32, -1),
        "strings": array(STRING, ["1"]),
    }
    for name in SIZES:
        for what, value in values.items():
            match = "outside of" if what == "negative" else "the value is .*, not an integer"
            if name in ("feed_forward_length", "attention.head_count", "attention.head_count_kv"):
                match = match.replace("not an integer", "not an")
            yield Case(f"{name}_as_{what}", _with(f"llama.{name}", value), match)
    for key in (EPS, BASE):
        for what, value in {**values, "float": scalar(U32, 1)}.items():
            yield Case(f"{key}_as_{what}", _with(key, value), "not a float")
    for what, value in {**values, "string": scalar(U8, 1)}.items():
        yield Case(f"architecture_as_{what}", _with("general.architecture", value), "not a string")


def _numbers() -> Iterator[Case]:
    for name in SIZES:
        for what, number in {"0": 0, "2p31": 1 << 31, "2p63": 1 << 63, "max": 2**64 - 1}.items():
            value = scalar(U64, number)
            yield Case(f"{name}_{what}", _with(f"llama.{name}", value), "outside of")
    yield Case(
        "context_length_largest", _with("llama.context_length", scalar(U32, 2**31 - 1)), None
    )
    wrong = {
        "embedding_length": (64, "is .* where"),
        "feed_forward_length": (FFN * 2, "ffn_gate.weight is"),
        "block_count": (2, "2 layers, its tensors 1"),
        "attention.head_count": (3, "cannot share|do not divide"),
        "attention.head_count_kv": (3, "cannot share"),
        "vocab_size": (VOCAB + 1, "the embedding has 8 rows"),
        "rope.dimension_count": (3, "not pairs"),
    }
    for name, (number, match) in wrong.items():
        yield Case(f"{name}_{number}", _with(f"llama.{name}", scalar(U32, number)), match)
    yield Case("head_count_64", _with("llama.attention.head_count", scalar(U32, 64)), "divide")
    yield Case("head_count_kv_8", _with("llama.attention.head_count_kv", scalar(U32, 8)), "outside")
    yield Case("rope_dims_10", _with("llama.rope.dimension_count", scalar(U32, 10)), "outside")
    yield Case("rope_dims_4_of_8", _with("llama.rope.dimension_count", scalar(U32, 4)), None)
    yield Case("key_length_8", _with("llama.attention.key_length", scalar(U32, 8)), None)
    yield Case("key_length_16", _with("llama.attention.key_length", scalar(U32, 16)), "attn_q")
    yield Case("key_length_none", _with("llama.attention.key_length", scalar(U32, 0)), "outside")
    yield Case("value_length_16", _with("llama.attention.value_length", scalar(U32, 16)), "attn_v")
    heads = "llama.attention.head_count"
    yield Case("head_count_list", _with(heads, array(U32, [4])), None)
    yield Case("head_count_list_empty", _with(heads, array(U32, [])), "list is empty")
    yield Case("head_count_list_differs", _with(heads, array(U32, [4, 8])), "differs between")
    yield Case("head_count_list_0", _with(heads, array(U32, [4, 0])), "outside of")
    floats = {"nan": float("nan"), "inf": float("inf"), "0": 0.0, "negative": -1e-5, "2": 2.0}
    for what, number in floats.items():
        match = "not a finite" if what in ("nan", "inf") else "outside of"
        yield Case(f"eps_{what}", _with(EPS, scalar(F32, number)), match)
    yield Case("eps_denormal", _with(EPS, scalar(F32, 1e-42)), "outside of")


def _rope() -> Iterator[Case]:
    for what, number in {"nan": float("nan"), "inf": float("-inf"), "0": 0.0, "-1": -1.0}.items():
        match = "not a finite" if what in ("nan", "inf") else "outside of"
        yield Case(f"rope_base_{what}", _with(BASE, scalar(F32, number)), match)
    yield Case("rope_base_1", _with(BASE, scalar(F32, 1.0)), "not above 1")
    kind = "llama.rope.scaling.type"
    for name in ("none", "linear", "yarn", "llama3"):
        model = tiny_model().set(kind, string(name))
        model.set("llama.rope.scaling.factor", scalar(F32, 8.0))
        yield Case(f"rope_{name}", model.build(), None)
        for what, number in {"0": 0.0, "nan": float("nan"), "-2": -2.0}.items():
            model.set("llama.rope.scaling.factor", scalar(F32, number))
            yield Case(f"rope_{name}_factor_{what}", model.build(), "outside of|not a finite")
    for name in ("longrope", "su", "", "dynamic"):
        yield Case(f"rope_kind_{name}", _with(kind, string(name)), "rope scaling .* not supported")
    yarn = tiny_model().set(kind, string("yarn"))
    for name in ("attn_factor", "yarn_beta_fast", "yarn_beta_slow"):
        key = f"llama.rope.scaling.{name}"
        yield Case(f"rope_{name}_0", _with(key, scalar(F32, 0.0)), "outside of")
        yield Case(f"rope_{name}_inf", _with(key, scalar(F32, float("inf"))), "not a finite")
    original = "llama.rope.scaling.original_context_length"
    yield Case("rope_original_0", _with(original, scalar(U32, 0), yarn), "outside of")
    llama3 = tiny_model().set(kind, string("llama3"))
    llama3.set("llama.rope.scaling.low_freq_factor", scalar(F32, 4.0))
    yield Case("rope_llama3_no_span", llama3.build(), "not above 4.0")
    factors = {"nan": float("nan"), "0": 0.0, "negative": -1.0, "inf": float("inf")}
    for name, number in {**factors, "denormal": 1e-45, "2": 2.0}.items():
        model = tiny_model()
        model.tensors.append(f32_tensor("rope_freqs.weight", 4))
        model.tensors[-1].data = scalar(F32, number)[4:] * 4
        match = {"denormal": "beyond float32", "2": None}.get(name, "not a positive number")
        yield Case(f"rope_factors_{name}", model.build(), match)
    model = tiny_model()
    model.tensors.append(f32_tensor("rope_freqs.weight", 5))
    yield Case("rope_factors_5", model.build(), "rope_freqs.weight is")


def _vocabulary() -> Iterator[Case]:
    key = "tokenizer.ggml.tokens"
    for name, count in {"none": 0, "one_less": VOCAB - 1, "one_more": VOCAB + 1}.items():
        value = array(STRING, ["a"] * count)
        yield Case(f"tokens_{name}", _with(key, value), f"has {count} tokens")
    yield Case("tokens_as_string", _with(key, string("abc")), "not an array")
    yield Case("tokens_absent", tiny_model().drop(key).build(), None)
    model = tiny_model()
    model.tensor("token_embd.weight").dims = [HIDDEN * VOCAB]
    yield Case("embedding_flat", model.build(), "embedding has 1 rows")
    yield Case("embedding_missing", tiny_model().drop_tensor("token_embd.weight").build(), "embed")
    model = tiny_model()
    model.tensors.clear()
    yield Case("vocabulary_only", model.build(), "no tensors")


def _experts() -> Iterator[Case]:
    yield Case("experts_4", tiny_model(experts=4).build(), None)
    used = "llama.expert_used_count"
    for number in (0, 5):
        value = scalar(U32, number)
        yield Case(f"experts_used_{number}", _with(used, value, tiny_model(experts=4)), "outside")
    yield Case("experts_used_missing", tiny_model(experts=4).drop(used).build(), "is missing")
    scaled = _with("llama.expert_weights_scale", scalar(F32, 2.5), tiny_model(experts=4))
    yield Case("experts_scaled", scaled, "expert_weights_scale other than 1")
    count = "llama.expert_count"
    for number, match in {8: "ffn_gate_inp", 0: "no place", 1 << 20: "outside of"}.items():
        yield Case(
            f"experts_{number}", _with(count, scalar(U32, number), tiny_model(experts=4)), match
        )
    qwen = tiny_model("qwen3").set("qwen3.expert_count", scalar(U32, 4))
    yield Case("experts_in_qwen3", qwen.build(), "experts are not supported")
    model = tiny_model(experts=2)
    for part in ("gate", "up", "down"):
        model.drop_tensor(f"blk.0.ffn_{part}_exps.weight")
        for expert in range(2):
            dims = (FFN, HIDDEN) if part == "down" else (HIDDEN, FFN)
            model.tensors.append(f32_tensor(f"blk.0.ffn_{part}.{expert}.weight", *dims))
    yield Case("experts_in_single_tensors", model.build(), "convert the model again")


def _tensors() -> Iterator[Case]:
    for tensor in tiny_model().tensors[1:]:
        name = tensor.name.decode()
        yield Case(f"missing_{name}", tiny_model().drop_tensor(name).build(), f"{name} is missing")
    qwen2 = tiny_model("qwen2").drop_tensor("blk.0.attn_k.bias")
    yield Case("qwen2_without_bias", qwen2.build(), "attn_k.bias is missing")
    qwen3 = tiny_model("qwen3").drop_tensor("blk.0.attn_q_norm.weight")
    yield Case("qwen3_without_norm", qwen3.build(), "attn_q_norm.weight is missing")
    model = tiny_model()
    model.tensor("blk.0.ffn_down.weight").dims = [HIDDEN, FFN]
    yield Case("ffn_down_transposed", model.build(), r"is \[32, 64\] where .* \[64, 32\]")
    extras = {
        "blk.0.attn_q_norm.weight": "no place",
        "blk.0.attn_qkv.weight": "no place",
        "blk.0.my.weight": "no place",
        "output.bias": "no place",
        "blk.1.attn_norm.weight": "1 layers, its tensors 2",
        "blk.99999999999999999999.x": "layers",
        "blk.0.attn_rot_embd": None,
        "rope_freqs.other": None,
        "cls.weight": None,
    }
    for name, match in extras.items():
        model = tiny_model()
        model.tensors.append(f32_tensor(name, 8))
        yield Case(f"extra_{name}", model.build(), match)
    model = tiny_model()
    model.tensors.append(f32_tensor("blk.0.my\x1b[2J", 8))
    yield Case("extra_with_escape", model.build(), r"'blk\.0\.my\\x1b\[2J' has no place")
    model = tiny_model()
    for name, rows in {"q": 32, "k": 16, "v": 16, "output": 32}.items():
        model.tensors.append(f32_tensor(f"blk.0.attn_{name}.bias", rows))
    yield Case("llama_with_biases", model.build(), None)
    model.tensors[-1].dims = [16, 2]
    yield Case("bias_of_wrong_shape", model.build(), "attn_output.bias is")
    model = tiny_model()
    model.tensors.append(f32_tensor("output.weight", HIDDEN, VOCAB))
    yield Case("untied_output", model.build(), None)
    model.tensors[-1].dims = [VOCAB, HIDDEN]
    yield Case("output_transposed", model.build(), "output.weight is")
