"""How a GGUF file says that positions are rotated, as the rope_parameters of a config.json.

llama.cpp writes the type and numbers of a scaling as metadata, but Llama 3's only as the number by
which each channel pair's frequency is divided, in the tensor rope_freqs.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.gguf.metadata import Metadata
from trainer.gguf.names import ROPE_FACTORS, ROPE_FREQUENCIES

_SCALING = "{arch}.rope.scaling."
_PUBLISHED = (1.0, 4.0), 8192
"""Low and high frequency factor, and original context, of every Llama 3."""
_SAME = 2e-6
"""Relative: the factors are fp32, and were computed in it."""

FactorTensors = Callable[[str], Tensor | None]
"""The numbers of one of the files' tensors of factors, fp32; None where there is none of it."""


def read_rope(
    metadata: Metadata, width: int, positions: int, factors: FactorTensors
) -> dict[str, Any]:
    """The rope_parameters of a config.json; `width`: of a head, `positions`: the context length.

    Raises CheckpointError for a rotation that is not computed.
    """
    theta = metadata.number("{arch}.rope.freq_base")
    theta = 10000.0 if theta is None else theta
    rope = {"rope_theta": theta}
    divided = factors(ROPE_FREQUENCIES)
    kind = metadata.text(_SCALING + "type")
    factor = metadata.number(_SCALING + "factor") or metadata.number("{arch}.rope.scale_linear")
    original = metadata.whole(_SCALING + "original_context_length")
    metadata.value(_SCALING + "finetuned")
    if kind is None:
        kind = "none" if factor in (None, 0.0, 1.0) else "linear"
    lists = {name: factors(tensor) for name, tensor in ROPE_FACTORS.items()}
    if kind == "longrope" and None not in lists.values():
        return rope | _longrope(metadata, positions, original, lists)
    if kind in ("none", "linear") and divided is not None and factor in (None, 0.0, 1.0):
        return rope | _divided(divided.double().numpy(), theta, width, original)
    if divided is not None or any(one is not None for one in lists.values()):
        raise _refused(metadata, f"is {kind}, beside tensors of rotary factors")
    if kind == "none":
        return rope | {"rope_type": "default"}
    if kind not in ("linear", "yarn") or factor is None:
        raise _refused(metadata, f"is {kind}" + (", without a factor" if factor is None else ""))
    if kind == "linear":
        return rope | {"rope_type": "linear", "factor": factor}
    return rope | _yarn(metadata, factor, original or positions)


def attention_growth(factor: float) -> float:
    """What llama.cpp multiplies rotated queries and keys by under YaRN, beside attn_factor."""
    return 1.0 if factor <= 1.0 else 0.1 * math.log(factor) + 1.0


def _yarn(metadata: Metadata, factor: float, original: int) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "yarn", "factor": factor}
    rope["original_max_position_embeddings"] = original
    for key in ("beta_fast", "beta_slow"):
        if (value := metadata.number(f"{_SCALING}yarn_{key}")) is not None:
            rope[key] = value
    for key, usual in (("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)):
        if (value := metadata.number(_SCALING + key)) not in (None, usual):
            raise _refused(metadata, f"is yarn with {key} {value}")
    scale = _attention(metadata)
    if scale != 1.0:
        rope["attention_factor"] = scale * attention_growth(factor)
    return rope


def _longrope(
    metadata: Metadata, positions: int, original: int | None, lists: dict[str, Tensor | None]
) -> dict[str, Any]:
    original = original or positions
    rope: dict[str, Any] = {"rope_type": "longrope", "factor": positions / original}
    rope["original_max_position_embeddings"] = original
    rope["attention_factor"] = _attention(metadata)
    for name, values in lists.items():
        assert values is not None
        rope[f"{name}_factor"] = [_shortest(value) for value in values.tolist()]
    return rope


def _attention(metadata: Metadata) -> float:
    found = (metadata.number(_SCALING + key) for key in ("attn_factor", "yarn_attn_factor"))
    return next((value for value in found if value is not None), 1.0)


def _divided(
    divisors: np.ndarray, theta: float, width: int, original: int | None
) -> dict[str, Any]:
    """Llama 3's scaling that has these divisors; where none has, LongRoPE by the list itself."""
    largest = float(divisors.max())
    if np.all(divisors == 1.0):
        return {"rope_type": "default"}
    usual, context = _PUBLISHED
    tried = [(*usual, original or context), *_fitted(divisors, theta, width, original)]
    for low, high, context in tried:
        rope = {
            **{"rope_type": "llama3", "factor": _shortest(largest), "low_freq_factor": low},
            **{"high_freq_factor": high, "original_max_position_embeddings": context},
        }
        made = llama3_divisors(rope, theta, width)
        if made.shape == divisors.shape and np.allclose(made, divisors, rtol=_SAME, atol=0.0):
            return rope
    same = [_shortest(value) for value in divisors.tolist()]
    return {
        **{"rope_type": "longrope", "factor": 1.0, "attention_factor": 1.0},
        **{"original_max_position_embeddings": 1, "short_factor": same, "long_factor": same},
    }


def llama3_divisors(rope: dict[str, Any], theta: float, width: int) -> np.ndarray:
    """By what Llama 3's scaling divides each channel pair's frequency, fp64 [width / 2].

    Source: arXiv:2407.21783, as transformers' modeling_rope_utils computes it.
    """
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = _turns(theta, width) * rope["original_max_position_embeddings"]
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1.0 - smooth) / rope["factor"] + smooth)


def _turns(theta: float, width: int) -> np.ndarray:
    """How often each channel pair turns in one token, fp64 [width / 2]."""
    return theta ** -(np.arange(0, width, 2, dtype=np.float64) / width) / (2 * math.pi)


def _fitted(
    divisors: np.ndarray, theta: float, width: int, original: int | None
) -> list[tuple[float, float, int]]:
    """Low and high factor and original context by the channels between the two, if there are two.

    The three are known up to a common multiple: the context says which, or a low factor of 1.
    """
    between = (divisors > 1.0 + _SAME) & (divisors < divisors.max() * (1 - _SAME))
    if len(divisors) != width // 2 or between.sum() < 2:
        return []
    shrink = 1.0 / divisors.max()
    smooth = (1.0 / divisors[between] - shrink) / (1.0 - shrink)
    slope, offset = np.polyfit(_turns(theta, width)[between], smooth, 1)
    if offset >= 0:
        return []
    spread = -1.0 / offset if original is None else original / slope
    low, high = -offset * spread, (1.0 - offset) * spread
    return [(round(low, 4), round(high, 4), round(slope * spread))]


def _shortest(value: float) -> float:
    return float(str(np.float32(value)))


def _refused(metadata: Metadata, what: str) -> CheckpointError:
    return CheckpointError(
        f"{metadata.path}: rope.scaling.type {what}, which is not computed here; choose another"
        " model"
    )
