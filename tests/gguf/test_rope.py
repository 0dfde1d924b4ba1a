"""Rotations as GGUF files say them, in metadata or in tensors of factors."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.errors import CheckpointError
from trainer.gguf.metadata import Metadata
from trainer.gguf.rope import read_rope

LLAMA3 = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}
OTHER = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0}
OTHER |= {"original_max_position_embeddings": 6000}
YARN = {"type": "yarn", "factor": 4.0, "original_context_length": 32768}


def divisors_of(rope: dict[str, Any], theta: float, width: int) -> np.ndarray:
    """By transformers: by what a scaling divides the frequencies of a plain rotation."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        **{"hidden_size": width, "num_attention_heads": 1, "head_dim": width},
        **{"max_position_embeddings": 131072},
        rope_parameters={"rope_type": "llama3", "rope_theta": theta, **rope},
    )
    scaled, _scale = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / theta ** (torch.arange(0, width, 2) / width)
    return (plain / scaled).numpy()


def read(keys: dict[str, Any], factors: dict[str, Any] | None = None, width: int = 64) -> Any:
    prefixed = {f"llama.rope.{key}": value for key, value in keys.items()}
    found = Metadata({"general.architecture": "llama"} | prefixed, Path("model.gguf"))
    tensors = {name: torch.tensor(values) for name, values in (factors or {}).items()}
    return read_rope(found, width, 131072, tensors.get)


def scaling(**keys: Any) -> dict[str, Any]:
    return {f"scaling.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize(("rope", "original"), [(LLAMA3, None), (OTHER, None), (OTHER, 6000)])
def test_llama_3_is_known_by_its_factors(rope: dict[str, Any], original: int | None) -> None:
    """Catches a Llama 3.1 that is read as Llama 3: transformers 5.23 leaves the tensor unread."""
    factors = {"rope_freqs.weight": divisors_of(rope, 5e5, 128)}
    keys = {"freq_base": 500000.0}
    keys |= {} if original is None else {"scaling.original_context_length": original}
    assert read(keys, factors, 128) == {"rope_type": "llama3", "rope_theta": 5e5, **rope}


def test_factors_of_no_llama_3_are_taken_as_they_are() -> None:
    """Catches factors that are pressed into the form that is usual."""
    odd = [1.0 + number / 7 for number in range(32)]
    found = read({}, {"rope_freqs.weight": odd})
    assert found["rope_type"] == "longrope" and found["attention_factor"] == 1.0
    assert found["short_factor"] == found["long_factor"]
    assert np.allclose(found["long_factor"], odd, rtol=1e-6)
    assert read({}, {"rope_freqs.weight": [1.0] * 32})["rope_type"] == "default"


def test_scalings_are_read_from_the_metadata() -> None:
    """Catches a factor under another name, a default of another program, and fp32's digits."""
    assert read({"freq_base": float(np.float32(10000.7))})["rope_theta"] == 10000.7
    assert read({"scale_linear": 4.0}) == read(scaling(type="linear", factor=4.0))
    assert read(scaling(type="linear", factor=4.0))["rope_type"] == "linear"
    assert read(scaling(type="none", factor=1.0))["rope_type"] == "default"
    yarn = read(scaling(**YARN, yarn_beta_fast=16.0))
    assert (yarn["factor"], yarn["original_max_position_embeddings"]) == (4.0, 32768)
    assert yarn["beta_fast"] == 16.0 and "attention_factor" not in yarn
    grown = read(scaling(**YARN, attn_factor=0.5))["attention_factor"]
    assert math.isclose(grown, 0.5 * (0.1 * math.log(4.0) + 1.0))
    lists = {"rope_factors_short.weight": [1.0] * 32, "rope_factors_long.weight": [2.0] * 32}
    keys = scaling(type="longrope", original_context_length=4096, attn_factor=1.2)
    long = read(keys, lists)
    assert (long["factor"], long["attention_factor"]) == (32.0, 1.2)
    assert (long["short_factor"][0], long["long_factor"][0]) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("keys", "factors", "words"),
    [
        (scaling(type="yarn"), {}, "is yarn, without a factor"),
        (scaling(**YARN, yarn_ext_factor=0.5), {}, "is yarn with yarn_ext_factor 0.5"),
        (scaling(**YARN), {"rope_freqs.weight": [2.0] * 32}, "beside tensors of rotary factors"),
        (scaling(type="longrope"), {}, "is longrope"),
        ({}, {"rope_factors_long.weight": [2.0] * 32}, "is none, beside tensors of rotary"),
    ],
)
def test_a_rotation_that_is_not_computed_is_refused(
    keys: dict[str, Any], factors: dict[str, Any], words: str
) -> None:
    """Catches a part of a rotation that is left out."""
    with pytest.raises(CheckpointError, match=words):
        read(keys, factors)
