"""What may differ from layer to layer: how far a layer sees, and whether and how it rotates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from rocmforge.gguf import Metadata
from rocmforge.model.architecture import Architecture, LocalRope
from rocmforge.model.keys import Keys
from rocmforge.model.rope import RopeConfig, RopeScaling

_WINDOW: Final = "attention.sliding_window"
_PATTERN: Final = "attention.sliding_window_pattern"
_LOCAL_BASE: Final = "rope.freq_base_swa"
MAX_WINDOW: Final = (1 << 31) - 1  # positions are int32


@dataclass(frozen=True, slots=True)
class LayerConfig:
    window: int = 0  # positions a token sees, itself included; 0: all before it
    rope: Literal["none", "main", "local"] = "main"


def read_layers(
    metadata: Metadata, keys: Keys, architecture: Architecture, num_layers: int
) -> tuple[LayerConfig, ...]:
    """One entry a layer; empty where all of them are as LayerConfig's defaults."""
    window, windowed = _windows(metadata, keys, architecture, num_layers)
    rotates = architecture.rotates
    if architecture.rope_switch:
        rotates = metadata.bool(keys.key("rope.scaling.finetuned"), True)
    full_layers_rotate = architecture.full_layers_rotate or not any(windowed)
    local = _rotates_locally(keys, architecture)

    def rope_use(layer: int) -> Literal["none", "main", "local"]:
        period = architecture.no_rope_period
        if not rotates or (period and (layer + 1) % period == 0):
            return "none"
        if windowed[layer]:
            return "local" if local else "main"
        return "main" if full_layers_rotate else "none"

    layers = tuple(
        LayerConfig(window=window if windowed[layer] else 0, rope=rope_use(layer))
        for layer in range(num_layers)
    )
    return layers if any(layer != LayerConfig() for layer in layers) else ()


def read_local_rope(
    keys: Keys, architecture: Architecture, layers: tuple[LayerConfig, ...], rope: RopeConfig
) -> RopeConfig | None:
    """The rotation of layers whose `rope` is "local"; None where there are none."""
    if architecture.windows is None or all(layer.rope != "local" for layer in layers):
        return None
    kind = architecture.windows.local_rope
    base = keys.float(_LOCAL_BASE, 10000.0 if kind is LocalRope.BASE_10000 else rope.base)
    if base <= 1:
        keys.fail(_LOCAL_BASE, f"{base} is not above 1")
    if kind is LocalRope.AS_OTHERS:
        return replace(rope, base=base)
    attn_factor = 1.0 if kind is LocalRope.UNSCALED else rope.attn_factor
    return replace(
        rope,
        base=base,
        scaling=RopeScaling.NONE,
        factor=1.0,
        attn_factor=attn_factor,
        has_factors=False,
        has_long_factors=False,
    )


def _windows(
    metadata: Metadata, keys: Keys, architecture: Architecture, num_layers: int
) -> tuple[int, list[bool]]:
    """The window's size and which layers have one."""
    rule = architecture.windows
    if rule is None:
        return 0, [False] * num_layers
    window = keys.uint(_WINDOW, rule.size, minimum=0, maximum=MAX_WINDOW)
    if window == 0:
        return 0, [False] * num_layers
    if metadata.is_array(keys.key(_PATTERN)):
        kinds = metadata.flags(keys.key(_PATTERN)).tolist()
        if len(kinds) != num_layers:
            keys.fail(_PATTERN, f"{len(kinds)} entries for {num_layers} layers")
        return window, kinds
    # A period of 0 is no window at all, and one of 1 is none either: the last of one is the only.
    period = keys.uint(_PATTERN, rule.period, minimum=0, maximum=MAX_WINDOW)
    full = 0 if rule.full_first else period - 1
    return window, [period > 0 and layer % period != full for layer in range(num_layers)]


def _rotates_locally(keys: Keys, architecture: Architecture) -> bool:
    """Whether layers with a window rotate by a base or a scaling of their own."""
    rule = architecture.windows
    return _LOCAL_BASE in keys or (rule is not None and rule.local_rope is not LocalRope.AS_OTHERS)
