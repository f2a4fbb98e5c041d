"""What can set one decoder apart from another, as data."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Presence(enum.Enum):
    """Whether the tensors of a step are in a file of the architecture."""

    NEVER = "never"
    OPTIONAL = "optional"
    ALWAYS = "always"


class Norm(enum.Enum):
    RMS = "rms"
    LAYER = "layer"


class Activation(enum.Enum):
    """Of the feed-forward network; gated ones multiply a second projection."""

    SILU_GATED = "silu-gated"
    GELU_GATED = "gelu-gated"
    OAI_GATED = "oai-gated"
    GELU = "gelu"
    RELU_SQUARED = "relu-squared"

    @property
    def gated(self) -> bool:
        return self not in (Activation.GELU, Activation.RELU_SQUARED)


class QkNorm(enum.Enum):
    """What the norm of queries, and that of keys, goes over."""

    HEAD = "head"
    EACH_HEAD = "each-head"  # with weights of its own, by a layer norm
    WHOLE = "whole"


class ExpertGate(enum.Enum):
    """How the scores of a router become shares of experts."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    SPARSE_MIXER = "sparse-mixer"  # GRIN's, arXiv:2409.12136


class Parallel(enum.Enum):
    """Whether the feed-forward network reads what attention reads, instead of its result."""

    NEVER = "never"
    WITHOUT_FFN_NORM = "without-ffn-norm"
    BY_KEY = "by-key"  # use_parallel_residual; with a norm of its own
    ALWAYS = "always"


class LogitScale(enum.Enum):
    """What the key `logit_scale` does to logits."""

    ABSENT = "absent"
    FACTOR = "factor"
    DIVISOR = "divisor"


class LocalRope(enum.Enum):
    """How layers with a sliding window rotate, unless `rope.freq_base_swa` gives their base."""

    AS_OTHERS = "as-others"
    UNSCALED = "unscaled"  # the base of the others without their scaling
    BASE_10000 = "base-10000"  # without scaling


@dataclass(frozen=True, slots=True)
class Windows:
    """Layers with a sliding window: all of a period but one.

    The key `attention.sliding_window_pattern` gives another period, or each layer's kind.
    """

    period: int
    full_first: bool = False  # the first of a period has none, instead of the last
    size: int = 0  # positions, where the file has no `attention.sliding_window`; 0: then none
    local_rope: LocalRope = LocalRope.AS_OTHERS


@dataclass(frozen=True, slots=True)
class Architecture:
    name: str
    rope_interleaved: bool  # pairs (2i, 2i+1), as the converter permutes Llama weights; else halves
    encoder: bool = False  # tokens see those after them: for embeddings, not for generation
    rotates: bool = True  # else positions are told apart by embeddings, position_embd.weight
    alibi: bool = False  # nor by those: scores fall with the distance of two tokens
    text_types: bool = False  # token_types.weight, if it is there: all tokens get its first row
    input_norm: bool = False  # on embeddings, token_embd_norm.weight
    norm: Norm = Norm.RMS
    norm_bias: Presence = Presence.NEVER
    rms_epsilon: bool = False  # a layer norm's epsilon stands where that of RMS norms does
    pre_norms: bool = True  # before attention and the feed-forward network
    first_attn_norm: Presence = Presence.ALWAYS  # of layer 0
    post_norms: bool = False  # on what they add
    sum_norms: bool = False  # on the sum with what they have added; in place of output_norm too
    # Where it is present, attention's norm, and attn_norm the other's; with sum_norms, one more:
    # of the sum of what the first gives and what attention has read.
    attn_norm_2: bool = False
    ffn_norm: str = "ffn_norm"  # the tensor's name
    qkv_bias: Presence = Presence.NEVER
    attn_output_bias: Presence = Presence.NEVER
    ffn_bias: Presence = Presence.NEVER
    qk_norm: Presence = Presence.NEVER
    qk_norm_over: QkNorm = QkNorm.HEAD
    sinks: bool = False  # attn_sinks.weight: a score for each head that weighs nothing
    rope_factors: Presence = Presence.NEVER  # rope_freqs.weight: Llama 3's divisors
    long_rope: bool = False  # rope_factors_{short,long}.weight: divisors by the context's length
    no_rope_period: int = 0  # the last layer of so many does not rotate; 0: all do
    full_layers_rotate: bool = True  # those without a window, where others have one
    rope_switch: bool = False  # rope.scaling.finetuned says whether layers rotate at all
    output_bias: bool = False  # on logits
    windows: Windows | None = None
    activation: Activation = Activation.SILU_GATED
    # ffn_up.weight holds the gate's rows, then its own; OPTIONAL: where there is no ffn_gate.weight
    fused_gate_up: Presence = Presence.NEVER
    parallel: Parallel = Parallel.NEVER
    latent: bool = False  # keys and values of all heads come from one vector a token
    experts: bool = False  # each token goes to the best few
    # Keys name the gate, the sum and the scale of weights, the number of shared experts and that of
    # layers without any, which come first.
    expert_keys: bool = False
    expert_gate: ExpertGate = ExpertGate.SOFTMAX
    expert_choice_bias: Presence = Presence.NEVER  # exp_probs_b: added where experts are chosen
    only_experts: bool = False  # no file without; they name expert_feed_forward_length
    expert_weights_sum_to_one: bool = True  # those of the best few, unless a key says otherwise
    predicts_next: bool = False  # the last nextn_predict_layers draft tokens and are not used
    expert_bias: bool = False  # of the router too
    shared_expert: Presence = Presence.NEVER  # one that all tokens go to
    shared_expert_gate: bool = False  # each token weighs it by a sigmoid
    embedding_scale_by_width: bool = False  # sqrt(hidden size)
    multipliers: bool = False  # keys embedding_scale, residual_scale and attention.scale
    logit_scale: LogitScale = LogitScale.ABSENT
    attention_cap: float = 0.0  # where the file has no attn_logit_softcapping; 0: never one
    logit_cap: float = 0.0  # where the file has no final_logit_softcapping; 0: never one
    # A model of so many layers scales scores by the width of hidden size / heads, not of a head.
    wide_scale_layers: int = 0
