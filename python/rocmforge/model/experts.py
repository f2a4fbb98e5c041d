"""How a model chooses among its experts and weighs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rocmforge.errors import UnsupportedError
from rocmforge.gguf import Metadata
from rocmforge.model.architecture import Architecture, ExpertGate, Presence
from rocmforge.model.keys import Keys

MAX_FFN: Final = 1 << 22
MAX_EXPERTS: Final = 1 << 14
# Values of the key expert_gating_func (llama_expert_gating_func_type).
_GATES: Final = {1: ExpertGate.SOFTMAX, 2: ExpertGate.SIGMOID}


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    gate: ExpertGate = ExpertGate.SOFTMAX
    weights_sum_to_one: bool = True  # those of the chosen experts; else of all of them
    weights_scale: float = 1.0
    num_dense_layers: int = 0  # the first ones, which have no experts


def read_num_experts(keys: Keys, architecture: Architecture) -> tuple[int, int]:
    """How many there are, and how many each token goes to; 0 and 0 without any."""
    minimum = 1 if architecture.only_experts else 0
    default = None if minimum else 0
    num_experts = keys.uint("expert_count", default, minimum=minimum, maximum=MAX_EXPERTS)
    if num_experts == 0:
        return 0, 0
    if not architecture.experts:
        msg = f"experts are not supported in architecture {architecture.name!r}"
        raise UnsupportedError(msg)
    if keys.uint("expert_group_count", 1, minimum=0, maximum=MAX_EXPERTS) > 1:
        msg = f"{keys.key('expert_group_count')} above 1 is not supported"
        raise UnsupportedError(msg)
    return num_experts, keys.uint("expert_used_count", maximum=num_experts)


def read_routing(
    metadata: Metadata, keys: Keys, architecture: Architecture, num_layers: int
) -> RoutingConfig:
    """Of a model with experts."""
    if not architecture.expert_keys:
        if keys.float("expert_weights_scale", 1.0) != 1:
            msg = f"{keys.key('expert_weights_scale')} other than 1 is not supported"
            raise UnsupportedError(msg)
        return RoutingConfig(
            gate=architecture.expert_gate,
            weights_sum_to_one=architecture.expert_weights_sum_to_one,
        )
    code = keys.uint("expert_gating_func", 0, minimum=0, maximum=1 << 16)
    if code not in (0, *_GATES):
        msg = f"{keys.key('expert_gating_func')} {code} is not supported; 1 and 2 are"
        raise UnsupportedError(msg)
    return RoutingConfig(
        gate=_GATES.get(code, architecture.expert_gate),
        weights_sum_to_one=metadata.bool(
            keys.key("expert_weights_norm"), architecture.expert_weights_sum_to_one
        ),
        weights_scale=keys.float("expert_weights_scale", 1.0),
        num_dense_layers=keys.uint("leading_dense_block_count", 0, minimum=0, maximum=num_layers),
    )


def read_expert_size(keys: Keys, architecture: Architecture, ffn_size: int) -> int:
    default = None if architecture.only_experts else ffn_size
    return keys.uint("expert_feed_forward_length", default, maximum=MAX_FFN)


def read_shared_size(
    keys: Keys, architecture: Architecture, ffn_size: int, expert_size: int
) -> int:
    """Of the expert that all tokens go to; 0 without one."""
    presence = architecture.shared_expert
    if presence is Presence.NEVER:
        return 0
    minimum = 0 if presence is Presence.OPTIONAL else 1
    if architecture.expert_keys:
        most = MAX_FFN // expert_size
        count = keys.uint("expert_shared_count", minimum, minimum=minimum, maximum=most)
        return count * expert_size
    default = ffn_size if minimum else 0
    name = "expert_shared_feed_forward_length"
    return keys.uint(name, default, minimum=minimum, maximum=MAX_FFN)
