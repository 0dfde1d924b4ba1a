"""The proof of a conversion reaches past every length at which the two models could differ."""

import json
from typing import Any

import pytest

from tests.parity.ranks import on_ranks
from trainer.hugging_face.config import ModelDescription, describe
from trainer.hugging_face.parity import LARGEST_DIFFERENCE, Parity

USUAL = {
    **{"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"num_hidden_layers": 4, "intermediate_size": 96, "vocab_size": 99},
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}

CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "mistral": (
        {"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 32768},
        [{"window": 4095}, {"window": 4097}, {"window": None}, {"rope_theta": 10001.0}],
    ),
    "a window of itself": (
        {"model_type": "mistral", "sliding_window": 1, "max_position_embeddings": 64},
        [{"window": 2}, {"window": None}],
    ),
    "qwen2": (
        {
            **{"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 300},
            **{"max_window_layers": 2, "max_position_embeddings": 1024},
        },
        [
            {"window": 301},
            {"window_pattern": ("global", "local", "local", "local")},
            {"window_pattern": ("local", "local", "global", "global")},
        ],
    ),
    "yarn": (
        {
            **{"model_type": "qwen3", "head_dim": 16, "max_position_embeddings": 131072},
            "rope_parameters": YARN | {"original_max_position_embeddings": 32768},
        },
        [{"rope_scaling": {"attention_factor": 1.0}}, {"rope_scaling": {"beta_fast": 24.0}}],
    ),
    "dynamic": (
        {
            **{"model_type": "llama", "max_position_embeddings": 2048},
            "rope_scaling": {"type": "dynamic", "factor": 2.0},
        },
        [{"rope_scaling": {"original_context": 2047}}, {"rope_scaling": {"factor": 2.01}}],
    ),
    "llama 3": (
        {
            **{"model_type": "llama", "max_position_embeddings": 131072},
            "rope_parameters": LLAMA3
            | {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        },
        [{"rope_scaling": {"original_context": 8000}}, {"rope_scaling": None}],
    ),
}
"""A config.json of published sizes, but for its widths; and models that it does not describe."""


def described(name: str) -> ModelDescription:
    return describe(json.dumps(USUAL | CASES[name][0]).encode(), name)


def changed(model: Any, change: dict[str, Any]) -> Any:
    """The model section with a change, of its `rope_scaling` a key at a time."""
    values = dict(change)
    if isinstance(values.get("rope_scaling"), dict):
        values["rope_scaling"] = model.rope_scaling.model_copy(update=values["rope_scaling"])
    return model.model_copy(update=values)


def differences(names: list[str]) -> dict[str, list[float]]:
    """Of each case: with the model that the file describes, then with the others."""
    from trainer.hugging_face.quiet import quiet_transformers
    from trainer.hugging_face.short_models import largest_difference

    found: dict[str, list[float]] = {}
    with quiet_transformers():
        for name in names:
            about = described(name)
            models = [about.model, *(changed(about.model, c) for c in CASES[name][1])]
            found[name] = [largest_difference(about, model) for model in models]
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, list[float]]:
    measured: dict[str, list[float]] = on_ranks(1, differences, list(CASES))[0]
    return measured


@pytest.mark.parametrize("name", CASES)
def test_the_same_windows_and_rotation_agree_at_every_length(
    found: dict[str, list[float]], name: str
) -> None:
    """Catches a window or a rotation that is ours alone, at lengths no text of a test has."""
    assert found[name][0] < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_another_window_or_rotation_is_found(found: dict[str, list[float]], name: str) -> None:
    """The negative control: one token more or less in a window of 4,096 does not pass."""
    for change, difference in zip(CASES[name][1], found[name][1:], strict=True):
        assert difference > 10 * LARGEST_DIFFERENCE, change


def test_a_difference_beyond_the_real_texts_does_not_hold() -> None:
    """Catches a proof that is measured, shown, and not asked."""
    assert Parity(1, 1e-6, 1.0, 64, 9e-5, 4096).holds
    for beyond in (1e-4, float("nan")):
        assert not Parity(1, 1e-6, 1.0, 64, beyond, 4096).holds
