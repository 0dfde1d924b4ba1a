"""A GGUF file becomes the model that transformers reads from it."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import LlamaConfig

from tests.gguf.models import (
    QWEN3,
    TOKENIZER,
    add_byte_level,
    network,
    our_logits,
    their_logits,
    write_gguf,
)
from trainer.gguf.model import GgufModel
from trainer.hugging_face.importing import import_command

K_QUANTS = {
    **{"attn_q": Kind.Q4_K, "attn_k": Kind.Q6_K, "attn_v": Kind.Q5_K, "attn_output": Kind.Q3_K},
    **{"ffn_gate": Kind.Q2_K, "ffn_up": Kind.IQ4_XS, "ffn_down": Kind.IQ3_S},
    **{"token_embd": Kind.IQ4_NL, "output": Kind.Q8_0},
}
MIXED = {"attn_q": Kind.F16, "attn_k": Kind.Q5_0, "ffn_up": Kind.Q5_1, "ffn_down": Kind.BF16}
WIDE = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "head_dim": 64}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Kind] | Kind]] = {
    "llama": ("llama", {}, Kind.F32),
    "llama, tied": ("llama", {"tie_word_embeddings": True}, Kind.Q4_1),
    "llama, of several kinds": ("llama", {}, MIXED),
    "llama, in blocks of 256": ("llama", WIDE, K_QUANTS),
    "qwen2": ("qwen2", {}, Kind.Q8_0),
    "qwen3, tied": ("qwen3", QWEN3 | {"tie_word_embeddings": True}, Kind.F16),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_that_transformers_reads_from_the_file(case: str, tmp_path: Path) -> None:
    """Catches a tensor under another's name, rows of heads in llama.cpp's order, a lost bias."""
    architecture, options, kinds = CASES[case]
    path = tmp_path / "model.gguf"
    write_gguf(path, network(architecture, **options), architecture, kinds)
    import_command(path, tmp_path / "run")
    tokens = torch.randint(0, TOKENIZER.size, (2, 40), generator=torch.Generator().manual_seed(1))
    theirs = their_logits(path, tokens)
    # The limit of the parity of imports: fp32 rounds in proportion to the logits.
    assert (our_logits(tmp_path / "run", tokens) - theirs).abs().max() < 1e-4 * theirs.std()


def test_an_epsilon_that_is_not_said_is_that_of_transformers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches another number than transformers takes, in silence."""

    def add(writer: gguf.GGUFWriter) -> None:
        add_byte_level(writer)
        del writer.kv_data[0]["llama.attention.layer_norm_rms_epsilon"]

    path = tmp_path / "model.gguf"
    write_gguf(path, network("llama", num_hidden_layers=1), "llama", add=add)
    found = GgufModel(path).described.model.norm_eps
    assert found == LlamaConfig().rms_norm_eps and "1e-06 is taken" in caplog.text


@pytest.mark.parametrize(
    ("kind", "dtype"), [(Kind.BF16, torch.bfloat16), (Kind.F16, torch.float16)]
)
def test_weights_that_are_not_quantized_stay_bit_for_bit(
    kind: Kind, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Catches weights that grow to fp32, or pass through another dtype, on the way."""
    model = network("llama", num_hidden_layers=1)
    path = tmp_path / "model.gguf"
    write_gguf(path, model, "llama", kind)
    read = GgufModel(path).tensors()
    for name, weights in model.state_dict().items():
        stored = dtype if weights.dim() > 1 else torch.float32
        assert read.dtype(name) == stored
        assert torch.equal(read.read(name), weights.to(stored)), name
        rows = weights.shape[0] // 3, weights.shape[0] - 1
        assert torch.equal(read.read(name, rows), weights[slice(*rows)].to(stored)), name
