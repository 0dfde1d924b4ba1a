"""`model.rope_theta` and `model.rope_scaling`, from and to the keys of a config.json."""

import math
from typing import Any

from pydantic import ValidationError

from trainer.errors import CheckpointError, RecipeError
from trainer.recipe.model import ModelSection
from trainer.recipe.rope import RopeScaling, check_rope_scaling

KEYS = ("rope_parameters", "rope_scaling", "rope_theta", "original_max_position_embeddings")
"""The keys of config.json that say how positions are rotated."""

_TYPES = ("default", "linear", "llama3", "dynamic", "yarn", "longrope")


def read_rope(config: Any, where: str) -> tuple[float, RopeScaling | None]:
    """`model.rope_theta` and `model.rope_scaling` of a configuration as transformers resolves it.

    What follows from `max_position_embeddings` there is written out here: a run may be longer.
    Raises CheckpointError for a rotation that is not computed; `where`: the file, for errors.
    """
    # transformers does so again whenever it computes a rotation: by then it also knows the
    # original_max_position_embeddings that stand beside rope_scaling.
    config.standardize_rope_params()
    rope: dict[str, Any] = config.rope_parameters
    if "rope_type" not in rope:
        raise CheckpointError(
            f"{where}: rope_parameters differ by layer type, and one rotation for all layers is"
            " computed; choose another model"
        )
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            f"{where}: partial_rotary_factor is {rope['partial_rotary_factor']}, and whole heads"
            " are rotated here; choose another model"
        )
    if rope["rope_type"] not in _TYPES:
        raise CheckpointError(
            f"{where}: the rope type is {rope['rope_type']!r}, and {', '.join(_TYPES)} are"
            " computed; choose another model"
        )
    theta = rope["rope_theta"]
    if type(theta) not in (int, float) or not 0 < theta < math.inf:
        raise CheckpointError(
            f"{where}: rope_theta is {theta!r}, and frequencies follow from a number above 0; fetch"
            " the file again"
        )
    usual = config.hidden_size // config.num_attention_heads
    try:
        scaling = _scaling(rope, config.max_position_embeddings)
        check_rope_scaling(scaling, getattr(config, "head_dim", None) or usual)
        return theta, scaling
    except (KeyError, TypeError, ValueError, RecipeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            reason = f"{first['loc'][0]} is {first['input']!r}: {first['msg'].lower()}"
        raise CheckpointError(
            f"{where}: rope_parameters of type {rope['rope_type']} are damaged ({reason}); fetch"
            " the file again"
        ) from None


def _scaling(rope: dict[str, Any], positions: int) -> RopeScaling | None:
    kind = rope["rope_type"]
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(type="linear", factor=rope["factor"])
    if kind == "dynamic":
        # transformers takes the length that the model was made for from there.
        return RopeScaling(type="dynamic", factor=rope["factor"], original_context=positions)
    original = rope["original_max_position_embeddings"]
    if kind == "llama3":
        return RopeScaling(
            factor=rope["factor"],
            low_frequency_factor=rope["low_freq_factor"],
            high_frequency_factor=rope["high_freq_factor"],
            original_context=original,
        )
    factor = rope.get("factor")
    shared = {
        "factor": positions / original if factor is None else factor,
        "original_context": original,
        "attention_factor": rope.get("attention_factor"),
    }
    if kind == "longrope":
        lists = {name: rope[name[:-1]] for name in ("short_factors", "long_factors")}
        return RopeScaling(type="longrope", **shared, **lists)
    return RopeScaling(
        type="yarn",
        **shared,
        beta_fast=rope.get("beta_fast") or 32.0,
        beta_slow=rope.get("beta_slow") or 1.0,
        mscale=rope.get("mscale"),
        mscale_all_dim=rope.get("mscale_all_dim"),
        truncate=bool(rope.get("truncate", True)),
    )


def rope_keys(model: ModelSection) -> dict[str, Any]:
    """The keys of config.json that say how the model rotates, in both spellings."""
    rope = {"rope_theta": model.rope_theta, **_parameters(model.rope_scaling)}
    return {
        "rope_parameters": rope,
        # The same for readers that know the older keys only.
        "rope_theta": model.rope_theta,
        "rope_scaling": None if rope["rope_type"] == "default" else rope,
    }


def _parameters(scaling: RopeScaling | None) -> dict[str, Any]:
    if scaling is None:
        return {"rope_type": "default"}
    keys: dict[str, Any] = {"rope_type": scaling.type, "factor": scaling.factor}
    if scaling.type in ("linear", "dynamic"):
        return keys
    if scaling.type == "llama3":
        # No channel turns once in so few tokens: older imports spell linear scaling so.
        if scaling.original_context <= 2 * math.pi * scaling.low_frequency_factor:
            return keys | {"rope_type": "linear"}
        keys["low_freq_factor"] = scaling.low_frequency_factor
        keys["high_freq_factor"] = scaling.high_frequency_factor
    keys["original_max_position_embeddings"] = scaling.original_context
    if scaling.attention_factor is not None:
        keys["attention_factor"] = scaling.attention_factor
    if scaling.type == "longrope":
        keys["short_factor"] = list(scaling.short_factors or ())
        keys["long_factor"] = list(scaling.long_factors or ())
    if scaling.type == "yarn":
        keys |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        scales = {name: getattr(scaling, name) for name in ("mscale", "mscale_all_dim")}
        keys |= {name: value for name, value in scales.items() if value is not None}
        if not scaling.truncate:
            keys["truncate"] = False
    return keys


def written_positions(scaling: RopeScaling | None, trained: int) -> int:
    """`max_position_embeddings` of a model whose longest trained sequence has `trained` tokens.

    For dynamic scaling transformers computes the rotation from it: it is the original context.
    """
    if scaling is not None and scaling.type == "dynamic":
        return scaling.original_context
    return trained
