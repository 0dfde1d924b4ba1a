"""What a model writes follows from its weights, the prompt and the seed: never from the layout."""

from typing import Any

import pytest

from tests.evaluate.writing import (
    BRANCHES,
    END,
    PROMPTS,
    ROWS,
    SIZE,
    STEM,
    explore,
    write,
)
from tests.parity.ranks import on_ranks
from trainer.evaluate.prefixes import worth_a_stem

LAYOUTS: list[dict[str, Any]] = [
    {"tensor": 4},
    {"pipeline": 4},
    {"tensor": 2, "pipeline": 2},
    {"pipeline": 2, "virtual": 2},
    {"tensor": 2, "sequence": True},
    {"context": 2},
    {"context": 2, "tensor": 2, "sequence": True},
]


@pytest.fixture(scope="module")
def texts() -> dict[str, Any]:
    explored: dict[str, Any] = on_ranks(1, explore)[0]
    return explored


def test_every_layout_writes_the_same() -> None:
    """Catches a cache, a gathered slice or a draw that depends on how ranks share the work."""
    expected = on_ranks(1, write, [{}])[0][0]
    for rank, texts in enumerate(on_ranks(4, write, LAYOUTS)):
        for layout, text in zip(LAYOUTS, texts, strict=True):
            assert text == expected, f"rank {rank} at {layout}"


def test_layers_with_a_window_write_the_same_at_every_layout() -> None:
    """Catches a cache, or a rank's share of a sequence, that sees further than its window."""
    window = {"window": 4, "window_pattern": ["local", "local", "global"]}
    layouts: list[dict[str, Any]] = [{"context": 2}, {"pipeline": 2, "virtual": 2}, {"tensor": 2}]
    (expected,) = on_ranks(1, write, [{}], window)[0]
    for texts in on_ranks(2, write, layouts, window):
        assert texts == [expected] * len(layouts)
    assert expected != on_ranks(1, write, [{}])[0][0], "the window hides something"


def test_a_rotation_by_length_writes_the_same_at_every_layout() -> None:
    """Catches keys turned anew as the text grows: with a cache they stay as they were."""
    scaling = {"type": "dynamic", "factor": 4.0, "original_context": 6}
    layouts: list[dict[str, Any]] = [{"context": 2}, {"tensor": 2, "sequence": True}]
    (expected,) = on_ranks(1, write, [{}], {"rope_scaling": scaling})[0]
    for texts in on_ranks(2, write, layouts, {"rope_scaling": scaling}):
        assert texts == [expected] * len(layouts)
    longer = {"rope_scaling": scaling | {"original_context": 64}}
    assert expected != on_ranks(1, write, [{}], longer)[0][0], "texts pass the original context"


def test_the_cache_changes_nothing(texts: dict[str, Any]) -> None:
    """Catches keys cached at wrong positions, and padding that other tokens see."""
    assert texts["no cache"] == texts["together"]
    assert texts["padded"] == texts["together"]


def test_prompts_that_are_read_in_pieces_write_the_same(texts: dict[str, Any]) -> None:
    """Catches a piece whose keys go where the last piece's belong, as with 32 long prompts."""
    assert texts["in pieces"] == texts["together"]


def test_a_prompt_does_not_depend_on_its_neighbours(texts: dict[str, Any]) -> None:
    """Catches attention to the padding that brings prompts to one length."""
    assert texts["alone"] == texts["together"]
    assert texts["sampled alone"] == texts["sampled"]


def test_texts_behind_one_beginning_are_those_of_each_alone(texts: dict[str, Any]) -> None:
    """Catches keys of the shared beginning that some rows do not see, or lose with their
    neighbours that have ended.
    """
    shared = len(STEM) + 1  # behind the token that starts a text
    assert worth_a_stem(shared, len(BRANCHES))
    assert texts["branches"] == texts["branches, alone"]
    assert len({len(row) for row in texts["branches"]}) > 3


def test_the_same_prompt_twice_gives_two_texts(texts: dict[str, Any]) -> None:
    """Catches draws that follow from the seed alone: many samples of a prompt would be one."""
    first, other, second = texts["twice"]
    assert [first, other] == [texts["sampled"][0], texts["sampled"][2]]
    assert second != first


def test_the_seed_decides_the_text(texts: dict[str, Any]) -> None:
    """Catches draws from a global generator; greedy text is the negative control."""
    assert texts["sampled"] == texts["sampled again"] != texts["together"]


def test_only_tokens_are_written(texts: dict[str, Any]) -> None:
    """Catches ids of the rows that only round the vocabulary up: no tokenizer could decode them."""
    for rows in (texts["together"], texts["sampled"]):
        assert all(END < token < SIZE for row in rows for token in row)


def test_a_text_stops_at_the_end_of_its_document(texts: dict[str, Any]) -> None:
    """Catches text that runs on into another document, and an end that is kept."""
    # 800 draws from nearly uniform weights over 120 tokens: the end comes up in some rows, not all.
    ended = [row for row in texts["many"] if len(row) < 20]
    assert 0 < len(ended) < len(texts["many"])
    assert all(END not in row for row in texts["many"])


def test_a_text_stops_at_the_longest_sequence(texts: dict[str, Any]) -> None:
    """Catches positions that the model was never trained on, and a long neighbour's end for all."""
    for prompt, row in zip(PROMPTS, texts["short"], strict=True):
        # END may come earlier: it does not with these weights.
        assert len(row) == min(12, 16 - 1 - len(prompt))
    assert texts["short, alone"] == texts["short"]
    one, two, three = texts["short, unending"]
    assert one == two == three
    assert [len(row.tokens) for row in one] == [16 - 1 - len(prompt) for prompt in PROMPTS]
    assert not any(row.ended for row in one)
    assert texts["no row"].startswith(f"RecipeError: a prompt holds token {ROWS}")
    assert texts["too long"].startswith("RecipeError") and "shorten the prompt" in texts["too long"]
