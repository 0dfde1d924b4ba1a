"""The map of names is arithmetic on rows, and each row has one place."""

import pytest
import torch

from trainer.hugging_face.names import tensor_map
from trainer.plan.size import parameter_count
from trainer.recipe.model import ModelSection

SHAPES = {
    "grouped": {"kv_heads": 2},
    "one group": {"kv_heads": 1, "tied_embeddings": True},
    "as many": {"kv_heads": None, "head_size": 6},
    "biases": {"kv_heads": 2, "qkv_bias": True},
    "head norms": {"kv_heads": 4, "qk_norm": True, "tied_embeddings": True},
}


def section(name: str) -> ModelSection:
    sizes = {"layers": 2, "hidden": 32, "heads": 8, "ffn": 20, "vocab": 11}
    return ModelSection.model_validate(sizes | SHAPES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_taking_apart_undoes_joining(name: str) -> None:
    """Catches a row that is used twice or not at all: each has a number of its own."""
    for joined in tensor_map(section(name)):
        parts, start = {}, 0
        for part in joined.parts:
            count = torch.Size(part.shape).numel()
            parts[part.name] = torch.arange(start, start + count).view(part.shape)
            start += count
        whole = joined.join(parts.__getitem__)
        assert whole.shape == joined.shape
        assert sorted(whole.flatten().tolist()) == list(range(start))
        for part in joined.parts:
            taken = part.take(lambda first, last, rows=whole: rows[first:last], whole.dtype)
            assert torch.equal(taken, parts[part.name]), part.name


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_has_a_name(name: str) -> None:
    """Catches a tensor left out of the map."""
    model = section(name)
    assert model.vocab is not None
    numbers = [torch.Size(joined.shape).numel() for joined in tensor_map(model)]
    assert sum(numbers) == parameter_count(model, model.vocab)["total"]


def test_a_group_holds_its_queries_then_its_key_then_its_value() -> None:
    """Catches all queries before all keys, which a round trip alone would not notice."""
    joined = next(j for j in tensor_map(section("grouped")) if j.name.endswith("linear_qkv.weight"))
    queries, keys, values = joined.parts
    # Heads of 4 rows; each of the 2 groups has 4 query heads: 16 rows, then 4 and 4.
    assert queries.row_ranges == ((0, 16), (24, 40))
    assert keys.row_ranges == ((16, 20), (40, 44))
    assert values.row_ranges == ((20, 24), (44, 48))
