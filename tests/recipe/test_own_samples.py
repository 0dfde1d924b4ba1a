"""What the sets of a model's own samples owe a recipe; each rule is one line with its mend."""

from pathlib import Path
from typing import Any

import pytest

from tests.nested import nested
from tests.training.runs import recipe_of
from trainer.errors import RecipeError
from trainer.questions.question import Question
from trainer.questions.samples import AnswerSample, SampledQuestion
from trainer.recipe import Recipe, learning_changes
from trainer.recipe.own_sets import own_key_of, with_keys

ASKED = {"conversations__refusals__questions": ["questions.jsonl"]}


def fine_tuning_recipe(folder: Path, **keys: Any) -> Recipe:
    """`stage: sft` on a set, from a base; keys override, __ for the dot."""
    given: dict[str, Any] = {"stage": "sft", "init_from": str(folder / "base")}
    given |= {"sequence_length": 96, "data__mixture": [{"corpus": "chats.jsonl"}]}
    whole = recipe_of(folder / "run", folder).model_dump(mode="json") | {"corpus": None}
    return Recipe.from_keys(nested(whole, given | keys))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"stage": "preference", **ASKED},
            "conversations.refusals.questions: is read by stage sft, and the stage is preference",
        ),
        (
            {"stage": "pretrain", **ASKED},
            "conversations.refusals.questions: is read by stage sft, and the stage is pretrain",
        ),
        (
            {"conversations__factuality__corpora": ["shards"]},
            "conversations.factuality.corpora: is read by stage preference, and the stage is sft",
        ),
        (
            {"conversations__refusals__share": 0.3},
            "conversations.refusals.share: is not read, as conversations.refusals.questions is",
        ),
        ({**ASKED, "init_from": None}, "init_from: names no model to ask"),
        (
            {**ASKED, "conversations__refusals__tokens": 96},
            "conversations.refusals.tokens: 96 leave no room for a question",
        ),
        (
            {**ASKED, "conversations__refusals__threshold": 0.0},
            "conversations.refusals.threshold",
        ),
        (
            {**ASKED, "conversations__refusals__temperature": 0.0},
            "conversations.refusals.temperature",
        ),
        ({**ASKED, "conversations__refusals__sample": 3}, "samples"),
        (
            {"data__mixture": [{"corpus": "run://refusals"}]},
            "data.mixture.0.corpus: run://refusals names no set of this run",
        ),
    ],
)
def test_a_contradiction_is_one_line(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    """Catches keys that nobody reads, and a model that is asked what it cannot answer."""
    with pytest.raises(RecipeError) as raised:
        fine_tuning_recipe(tmp_path, **keys)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        {**ASKED, "conversations__refusals__share": 0.0},
        {"stage": "preference", "conversations__factuality__corpora": ["shards"]},
        {"stage": "preference", "conversations__factuality__questions": ["bank"]},
    ],
)
def test_what_means_something_is_accepted(tmp_path: Path, keys: dict[str, Any]) -> None:
    """The negative control: rules that refuse too much."""
    fine_tuning_recipe(tmp_path, **keys)


def test_the_set_is_one_source_of_the_mixture(tmp_path: Path) -> None:
    """Catches an entry that comes twice when a saved recipe is read, and a weight left behind."""
    recipe = fine_tuning_recipe(tmp_path, **ASKED, conversations__refusals__weight=3.0)
    assert recipe.data.names() == ("chats.jsonl", "refusals")
    assert [entry.weight for entry in recipe.data.mixture] == [1.0, 3.0]
    saved = Recipe.from_yaml(with_keys(recipe, {"refusals": "0f"}).to_yaml())
    assert [entry.corpus for entry in saved.data.mixture] == [
        "chats.jsonl",
        "run://refusals?key=0f",
    ]
    lighter = saved.replaced({"conversations.refusals.weight": 2.0})
    assert [entry.weight for entry in lighter.data.mixture] == [1.0, 2.0]
    assert own_key_of(lighter, "refusals") == "0f"
    named = [{"corpus": "run://refusals", "weight": 5.0}, {"corpus": "chats.jsonl"}]
    section = {"refusals": {"questions": ["questions.jsonl"]}}
    placed = fine_tuning_recipe(tmp_path, conversations=section, data__mixture=named)
    assert [entry.weight for entry in placed.data.mixture] == [5.0, 1.0]
    assert placed.conversations.refusals.weight == 5.0
    assert Recipe.from_yaml(placed.to_yaml()) == placed
    alone = fine_tuning_recipe(tmp_path, **ASKED, data__mixture=[])
    assert alone.data.names() == ("refusals",)


def test_other_questions_are_a_change_of_what_is_learned(tmp_path: Path) -> None:
    """Catches a resumed run whose file of questions has become another, told by nothing."""
    recipe = fine_tuning_recipe(tmp_path, **ASKED)
    before, after = (with_keys(recipe, {"refusals": key}) for key in ("0f", "1f"))
    content = "conversations.refusals.questions' content"
    assert learning_changes(before, after) == [(content, "0f", "1f")]
    heavier = before.replaced({"conversations.refusals.weight": 2.0})
    assert [name for name, _, _ in learning_changes(before, heavier)] == ["data.mixture"]


def test_the_share_of_right_samples_is_of_what_can_be_known() -> None:
    """Catches a question that nobody can answer and that counts as known."""
    right, wrong = AnswerSample("Rome", True, "right", ""), AnswerSample("Bonn", True, "wrong", "")
    known = Question("a", "What is the capital of Italy?", ("Rome",))
    assert SampledQuestion(known, (right, wrong, right, wrong)).right_share == 0.5
    unknowable = Question("b", "Who will win?")
    declined = AnswerSample("I do not know.", True, "declined", "")
    assert SampledQuestion(unknowable, (declined, declined)).right_share == 0.0
