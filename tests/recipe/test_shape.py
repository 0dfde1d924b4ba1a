"""The shape of a block is written once, and every rank's part adds up to it."""

import pytest

from trainer.recipe.model import ModelSection
from trainer.recipe.shape import LINEARS, block_linears, linear_names

SECTION = {"layers": 2, "hidden": 32, "heads": 8, "kv_heads": 2, "ffn": 20, "qkv_bias": True}


@pytest.mark.parametrize("keys", [{}, {"kv_heads": 1}, {"kv_heads": 8, "head_size": 6}])
def test_the_parts_of_a_linear_fill_it_once(keys: dict[str, int]) -> None:
    """Would catch a row that belongs to two of Hugging Face's linears, or to none."""
    for linear in block_linears(ModelSection.model_validate(SECTION | keys)):
        rows = [
            row
            for part in linear.parts
            for first, last in linear.row_ranges(part)
            for row in range(first, last)
        ]
        assert sorted(rows) == list(range(linear.rows))
        shapes = [linear.part_shape(part) for part in linear.parts]
        assert sum(rows * columns for rows, columns in shapes) == linear.weights


@pytest.mark.parametrize("tensor", [2, 4])
def test_the_ranks_parts_add_up(tensor: int) -> None:
    """Would catch a linear cut along the wrong dimension: 2 ranks share groups, 4 share heads."""
    for linear in block_linears(ModelSection.model_validate(SECTION)):
        held = linear.of_rank(tensor)
        assert held.weights * tensor == linear.weights
        assert (held.rows == linear.rows) == (linear.cut == "columns")


def test_names_are_hugging_faces() -> None:
    """Would catch a linear under a name that no Hugging Face model has."""
    model = ModelSection.model_validate(SECTION | {"vocab": 11})
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2,
        intermediate_size=20, vocab_size=11,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).state_dict()
    shapes = {
        f"model.layers.{layer}.{linear.module}.{part}.weight": linear.part_shape(part)
        for layer in range(2)
        for linear in block_linears(model)
        for part in linear.parts
    }
    assert {name.removesuffix(".weight") for name in shapes} == set(linear_names(2))
    assert all(tuple(theirs[name].shape) == shape for name, shape in shapes.items())
    assert {name.rpartition(".")[2] for name in linear_names(2)} == set(LINEARS)
