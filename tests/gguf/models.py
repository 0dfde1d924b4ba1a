"""Tiny GGUF files of random models, written by the gguf package as llama.cpp's converter does."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

from trainer.data.tokenizer import train_tokenizer

TEXT = "the cat sat on the mat and a dog ran to the mat"
TOKENIZER = train_tokenizer([TEXT] * 9, 288)
QWEN3 = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 128}
"""transformers 5.23 reads no width of Qwen3's heads, and takes the usual one."""
SCALES = {
    **dict.fromkeys((Kind.Q4_K, Kind.Q5_K), (0, 2)),
    **{Kind.Q2_K: (80, 82), Kind.Q3_K: (108,), Kind.Q6_K: (208,)},
    **dict.fromkeys((Kind.IQ4_XS, Kind.IQ4_NL, Kind.IQ3_S, Kind.IQ2_XXS, Kind.IQ1_S), (0,)),
}
"""Where a block has its fp16 scales."""


def network(family: str, **options: Any) -> Any:
    """A random model of transformers whose logits depend on everything in it."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    usual = {
        **{"vocab_size": TOKENIZER.size, "hidden_size": 64, "intermediate_size": 96},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"max_position_embeddings": 64, "initializer_range": 0.2, "rms_norm_eps": 1e-5},
        **{"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None, "head_dim": 16},
    }
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**(usual | options)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def add_shape(writer: gguf.GGUFWriter, config: Any) -> None:
    """The metadata of a model's shape."""
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)


def add_byte_level(writer: gguf.GGUFWriter, pre: str | None = "gpt-2") -> None:
    """The tokenizer of our own, as a byte-level BPE; its first three tokens are special."""
    model = json.loads(TOKENIZER.files["tokenizer.json"])["model"]
    names = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(names)
    writer.add_token_types([3] * 3 + [1] * (len(names) - 3))
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys as llama.cpp's converter orders them for llama."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def write_gguf(
    path: Path,
    model: Any,
    architecture: str,
    kinds: dict[str, Kind] | Kind = Kind.F32,
    leave_out: tuple[str, ...] = (),
    add: Any = add_byte_level,
    extra: dict[str, np.ndarray] | None = None,
    **writing: Any,
) -> None:
    """Write a model's weights; `kinds`: how matrices are stored, by a part of their names.

    `add`: is given the writer, for the tokenizer and further metadata.
    """
    config = model.config
    arch = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, architecture, **writing)
    add_shape(writer, config)
    add(writer)
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        values = parameter.float().numpy()
        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            of = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
            values = permuted(values, getattr(config, of))
        if theirs not in leave_out:
            _add(writer, theirs, values, _kind(theirs, values, kinds))
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _kind(name: str, values: np.ndarray, kinds: dict[str, Kind] | Kind) -> Kind:
    if values.ndim == 1:
        return Kind.F32
    if isinstance(kinds, Kind):
        return kinds
    return next((kind for part, kind in kinds.items() if part in name), Kind.F32)


def _add(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: Kind) -> None:
    if kind not in SCALES:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        return
    # The package writes no such blocks: random ones, with scales of a usual size.
    block, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(len(name))
    blocks = random.integers(0, 256, (values.size // block, size), dtype=np.uint8)
    for start in SCALES[kind]:
        scale = random.normal(0, 2e-3, (len(blocks), 1)).astype(np.float16)
        blocks[:, start : start + 2] = scale.view(np.uint8)
    writer.add_tensor(name, blocks.reshape(values.shape[0], -1), raw_dtype=kind)


def their_logits(path: Path, tokens: torch.Tensor) -> torch.Tensor:
    """The logits of transformers' model, by its own reading of a GGUF file."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    with torch.no_grad():
        return model(input_ids=tokens).logits


def our_logits(checkpoint: Path, tokens: torch.Tensor) -> torch.Tensor:
    """The logits of a checkpoint as it is opened for reading."""
    from trainer.evaluate.opened import open_model
    from trainer.model.rotary import rotary_embedding
    from trainer.model.sequence import SequenceLayout

    with open_model(checkpoint, 1) as opened, torch.no_grad():
        positions = torch.arange(tokens.shape[1]).expand(tokens.shape)
        layout = SequenceLayout.whole(positions, rotary_embedding(opened.recipe))
        return opened.chunks[0](tokens, layout).float()
