"""What `quantize` writes: which format each tensor of a file of some type gets.

A type such as Q4_K_M is a mix. The rules are those that llama.cpp's files follow: matrices that a
model is sensitive to (output, values, the products that end a layer) get more bits, in all layers
or in some, and rows that are no whole number of 256-weight blocks a format of 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rocmforge.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor as the rules see it."""

    layer: int  # of num_layers
    num_layers: int
    value_index: int  # of the num_values matrices that make values, in order of layers
    num_values: int
    heads_per_kv_head: int
    num_experts: int
    architecture: str
    has_importance: bool

    @property
    def first_eighth(self) -> bool:
        return self.layer < self.num_layers // 8


Rule = Callable[[Place], "str | None"]  # None: the format of the type


def more_bits(index: int, count: int) -> bool:
    """The first and last eighth, and every third between them."""
    eighth = count // 8
    return index < eighth or index >= 7 * count // 8 or (index - eighth) % 3 == 2


def _always(name: str) -> Rule:
    return lambda _: name


def _down_q3_k_m(p: Place) -> str | None:
    if p.layer < p.num_layers // 16:
        return "Q5_K"
    return "Q4_K" if p.architecture != "falcon" or more_bits(p.layer, p.num_layers) else None


def _down_q4_k_m(p: Place) -> str | None:
    if p.architecture != "falcon":
        return "Q6_K" if more_bits(p.layer, p.num_layers) else None
    if p.layer < p.num_layers // 16:
        return "Q6_K"
    return "Q5_K" if more_bits(p.layer, p.num_layers) else None


def _value_more_bits(p: Place) -> str | None:
    return "Q6_K" if more_bits(p.value_index, p.num_values) else None


def _value_shared(name: str, otherwise: str | None = None) -> Rule:
    """Where four and more heads share the values, they weigh little in the file."""
    return lambda p: name if p.heads_per_kv_head >= 4 else otherwise


def _down_first_without_importance(p: Place) -> str | None:
    return "Q5_K" if p.first_eighth and not p.has_importance else None


def _down_first_with_importance(name: str) -> Rule:
    return lambda p: name if p.first_eighth and p.has_importance else None


@dataclass(frozen=True, slots=True)
class QuantizationType:
    """`format` is what most matrices get; `file_type` is the number in general.file_type."""

    file_type: int
    format: str
    value: Rule | None = None
    down: Rule | None = None
    attention_output: str | None = None
    # With eight experts, which share one attention, its output gets Q5_K in the small types.
    small: bool = False


TYPES: dict[str, QuantizationType] = {
    "F32": QuantizationType(0, "F32"),
    "F16": QuantizationType(1, "F16"),
    "BF16": QuantizationType(32, "BF16"),
    "Q4_0": QuantizationType(2, "Q4_0", down=_down_first_with_importance("Q4_1")),
    "Q4_1": QuantizationType(3, "Q4_1"),
    "Q5_0": QuantizationType(8, "Q5_0", down=_down_first_with_importance("Q5_1")),
    "Q5_1": QuantizationType(9, "Q5_1"),
    "Q8_0": QuantizationType(7, "Q8_0"),
    "Q2_K": QuantizationType(
        10,
        "Q2_K",
        value=_value_shared("Q4_K", "Q3_K"),
        down=_always("Q3_K"),
        attention_output="Q3_K",
        small=True,
    ),
    "Q2_K_S": QuantizationType(
        21, "Q2_K", value=_value_shared("Q4_K"), down=lambda p: "Q4_K" if p.first_eighth else None
    ),
    "Q3_K_S": QuantizationType(11, "Q3_K", small=True),
    "Q3_K_M": QuantizationType(
        12,
        "Q3_K",
        value=lambda p: "Q5_K" if p.value_index < 2 else "Q4_K",
        down=_down_q3_k_m,
        attention_output="Q4_K",
        small=True,
    ),
    "Q3_K_L": QuantizationType(
        13,
        "Q3_K",
        value=_always("Q5_K"),
        down=lambda p: "Q4_K" if p.architecture == "falcon" else "Q5_K",
        attention_output="Q5_K",
    ),
    "Q4_K_S": QuantizationType(
        14,
        "Q4_K",
        value=lambda p: "Q5_K" if p.value_index < 4 else None,
        down=lambda p: "Q5_K" if p.first_eighth and p.architecture != "falcon" else None,
        small=True,
    ),
    "Q4_K_M": QuantizationType(15, "Q4_K", value=_value_more_bits, down=_down_q4_k_m, small=True),
    "Q5_K_S": QuantizationType(16, "Q5_K"),
    "Q5_K_M": QuantizationType(
        17,
        "Q5_K",
        value=_value_more_bits,
        down=lambda p: "Q6_K" if more_bits(p.layer, p.num_layers) else None,
    ),
    "Q6_K": QuantizationType(18, "Q6_K"),
    "IQ4_NL": QuantizationType(
        25,
        "IQ4_NL",
        value=_value_shared("Q5_K"),
        down=_down_first_without_importance,
        small=True,
    ),
    "IQ4_XS": QuantizationType(
        30,
        "IQ4_XS",
        value=_value_shared("Q5_K"),
        down=_down_first_without_importance,
        small=True,
    ),
    "MXFP4": QuantizationType(38, "MXFP4"),
}
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4_MOE": "MXFP4"}
FLOATS = frozenset({"F32", "F16", "BF16"})

# For rows that are no whole number of blocks.
FALLBACK = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "IQ4_XS": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


def type_named(name: str) -> tuple[str, QuantizationType]:
    """By name or alias, in any case; the name is the one that TYPES has."""
    upper = name.upper()
    upper = ALIASES.get(upper, upper)
    if upper not in TYPES:
        msg = f"type {name!r} is none of {', '.join([*TYPES, *ALIASES])}"
        raise InvalidArgumentError(msg)
    return upper, TYPES[upper]
