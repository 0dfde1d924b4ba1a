"""Randomly initialised transformers models with a tokenizer, and what they write."""

import json
from pathlib import Path
from typing import Any

import torch

from trainer.data.tokenizer import train_tokenizer

PROMPTS = ["the cat", "a dog ran", "", "mat and the"]
TOKENS = 12
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}\n"

LLAMA3_ROPE = {
    **{"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
YARN_ROPE = {
    **{"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 8.0},
    **{"original_max_position_embeddings": 8, "mscale": 2.0, "mscale_all_dim": 0.5},
}
LONG_ROPE = {
    **{"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 8},
    **{"factor": 4.0, "attention_factor": 1.3, "short_factor": [1.0 + n / 8 for n in range(8)]},
    "long_factor": [float(9 - n) for n in range(8)],
}
DYNAMIC_ROPE = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("llama", {}, "float32"),
    "llama tied": ("llama", {"tie_word_embeddings": True, "head_dim": 24}, "float32"),
    "llama 3": ("llama", {"rope_parameters": LLAMA3_ROPE}, "float32"),
    "llama linear": ("llama", {"rope_parameters": LINEAR_ROPE}, "float32"),
    # Texts grow past the context that these rotations were made for.
    "llama yarn": ("llama", {"rope_parameters": YARN_ROPE}, "float32"),
    "llama dynamic": (
        "llama",
        {"rope_parameters": DYNAMIC_ROPE, "max_position_embeddings": 8},
        "float32",
    ),
    "mistral longrope": (
        "mistral",
        {"rope_parameters": LONG_ROPE, "sliding_window": 7},
        "float32",
    ),
    "llama fp16": ("llama", {}, "float16"),
    # Shorter than a prompt and what follows it.
    "mistral": ("mistral", {"sliding_window": 6}, "float32"),
    "mistral bf16": ("mistral", {"sliding_window": None}, "bfloat16"),
    "ministral": (
        "ministral",
        {
            "sliding_window": 6,
            "head_dim": 24,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        },
        "float32",
    ),
    "qwen2": ("qwen2", {}, "float32"),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 4}, "float32"),
    "qwen2 windows": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
        "float32",
    ),
    "qwen3": ("qwen3", {"head_dim": 24}, "float32"),
    "qwen3 tied": ("qwen3", {"tie_word_embeddings": True, "head_dim": 16}, "bfloat16"),
}
"""Family, what its configuration says beyond the usual, and the dtype that is saved."""


def make_model(
    folder: Path,
    family: str,
    options: dict[str, Any],
    dtype: str = "float32",
    shard_size: int = 120_000,
) -> None:
    """Save a random model as several shards, with everything that a published folder has."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, GenerationConfig

    tokenizer = train_tokenizer(["the cat sat on the mat and a dog ran to the mat"] * 9, 280)
    usual = {
        **{"vocab_size": tokenizer.size, "hidden_size": 64, "intermediate_size": 96},
        **{"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2},
        # Weights so large that the most likely token is no near tie.
        **{"max_position_embeddings": 64, "initializer_range": 0.2},
        **{"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
    }
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**(usual | options)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases are not to be all alike
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=[0, 2], pad_token_id=0)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard_size)
    tokenizer.save(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    (folder / "LICENSE").write_text("A licence.\n")


def their_texts(folder: Path) -> list[list[int]]:
    """What transformers writes on from each prompt, greedily; without the end of the text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    texts = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        mask = torch.ones_like(ids)
        made = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=TOKENS)
        new = made[0, ids.shape[1] :].tolist()
        texts.append(new[: next((n for n, token in enumerate(new) if token in ends), len(new))])
    return texts


def our_texts(checkpoint: Path) -> list[list[int]]:
    """What `lyceum generate` writes on from each prompt at temperature 0."""
    from trainer.evaluate.generate import Generator, Vocabulary
    from trainer.evaluate.opened import open_model
    from trainer.evaluate.sampling import Sampling

    with open_model(checkpoint, 1) as opened:
        vocabulary = Vocabulary.of(opened.tokenizer)
        write = Generator(opened.chunks, opened.recipe, opened.layout, vocabulary)
        prompts = [opened.tokenizer.encode(prompt) for prompt in PROMPTS]
        return write(prompts, Sampling(tokens=TOKENS, temperature=0.0))


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder's safetensors files."""
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found
