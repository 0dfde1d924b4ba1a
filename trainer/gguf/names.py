"""The names of tensors in a GGUF file, and the order of their rows there."""

import re

import torch
from torch import Tensor

from trainer.recipe.model import ModelSection

_BLOCK = {
    "input_layernorm": "attn_norm",
    **{f"self_attn.{name}_proj": f"attn_{name}" for name in "qkv"},
    **{f"self_attn.{name}_norm": f"attn_{name}_norm" for name in "qk"},
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    **{f"mlp.{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")},
}
"""llama.cpp's names of the tensors in a block by Hugging Face's."""
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_IN_BLOCK = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")

ROPE_FREQUENCIES = "rope_freqs.weight"
ROPE_FACTORS = {kind: f"rope_factors_{kind}.weight" for kind in ("short", "long")}
DERIVED = re.compile(r"blk\.\d+\.attn_rot_embd(\.weight)?")
"""Rotary frequencies that older files carry, though they follow from the metadata."""


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor by Hugging Face's."""
    if found := _IN_BLOCK.fullmatch(name):
        layer, module, kind = found.groups()
        return f"blk.{layer}.{_BLOCK[module]}.{kind}"
    module, _, kind = name.rpartition(".")
    return f"{_WHOLE[module]}.{kind}"


def heads_interleaved(name: str, architecture: str, model: ModelSection) -> int:
    """Heads of a tensor whose rows llama.cpp has in another order than Hugging Face; else 0.

    Its `llama` turns neighbouring channels of queries and keys, Hugging Face's those that lie half
    a head apart; both orders give the same attention.
    """
    if architecture != "llama":
        return 0
    if name.endswith("self_attn.q_proj.weight"):
        return model.heads
    return model.query_groups if name.endswith("self_attn.k_proj.weight") else 0


def interleaved_rows(rows: int, heads: int) -> Tensor:
    """Of each of Hugging Face's rows, int64 [rows], its number among llama.cpp's."""
    return torch.arange(rows).view(heads, rows // heads // 2, 2).transpose(1, 2).reshape(-1)


def halved_rows(rows: int, heads: int) -> Tensor:
    """Of each of llama.cpp's rows, int64 [rows], its number among Hugging Face's."""
    return torch.arange(rows).view(heads, 2, rows // heads // 2).transpose(1, 2).reshape(-1)
