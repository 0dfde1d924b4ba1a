"""How a model's positions are rotated, as a GGUF file says it: metadata, and tensors of factors."""

import gguf
import numpy as np

from trainer.errors import CheckpointError
from trainer.gguf.names import ROPE_FACTORS, ROPE_FREQUENCIES
from trainer.gguf.rope import attention_growth, llama3_divisors
from trainer.hugging_face.rope import rope_keys
from trainer.recipe.model import ModelSection


def add_rope(writer: gguf.GGUFWriter, model: ModelSection) -> dict[str, np.ndarray]:
    """Add the metadata of a model's rotation; returns its tensors of factors by name, fp32.

    Raises CheckpointError for a scaling that GGUF has no words for.
    """
    writer.add_rope_dimension_count(model.head_width)
    writer.add_rope_freq_base(model.rope_theta)
    rope, scaling = rope_keys(model)["rope_parameters"], model.rope_scaling
    kind = rope["rope_type"]
    if scaling is None:
        return {}
    if kind == "llama3":
        writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
        divisors = llama3_divisors(rope, model.rope_theta, model.head_width)
        return {ROPE_FREQUENCIES: divisors.astype(np.float32)}
    if kind == "dynamic" or not scaling.truncate:
        what = "is dynamic" if kind == "dynamic" else "is not truncated"
        raise CheckpointError(
            f"model.rope_scaling {what}, for which GGUF has no words; export a Hugging Face folder"
        )
    writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
    writer.add_rope_scaling_factor(scaling.factor)
    if kind == "linear":
        return {}
    writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
    if kind == "yarn":
        writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)
        writer.add_rope_scaling_attn_factors(
            scaling.rotation_scale / attention_growth(scaling.factor)
        )
        return {}
    writer.add_rope_scaling_attn_factors(scaling.rotation_scale)
    lists = {"short": scaling.short_factors, "long": scaling.long_factors}
    return {ROPE_FACTORS[name]: np.array(list_, np.float32) for name, list_ in lists.items()}
