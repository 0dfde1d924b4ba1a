"""What `reinforce` owes itself and the rest of a recipe; each rule is one line with its mend."""

from pathlib import Path
from typing import Any

import pytest

from tests.training.questions import reinforcing_recipe
from tests.training.runs import recipe_of
from trainer.errors import RecipeError
from trainer.plan.show import show


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"reinforce__questions": []}, "reinforce.questions: is empty"),
        ({"init_from": None}, "init_from: names no model to ask"),
        ({"reinforce__group": 1}, "reinforce.group: 1 answer has no other"),
        (
            {"batch__sequences": 18},
            "reinforce.group 4; try batch.sequences=20",
        ),
        ({"reinforce__tokens": 96}, "reinforce.tokens: 96 leave no room"),
        ({"reinforce__beta": 0.1}, "reinforce.beta: holds the policy to the frozen base"),
        ({"reinforce__reference": "copy"}, "reinforce.reference: is not read, as reinforce.beta"),
        (
            {"reinforce__beta": 0.1, "lora": {"modules_to_save": ["embed_tokens"]}},
            "of which lora.modules_to_save trains parts",
        ),
        (
            {
                **{"reinforce__rewards__right": -1.0, "reinforce__rewards__declined": -1.0},
                "reinforce__rewards__declined_unknowable": -1.0,
            },
            "every answer earns -1, so that nothing is learned",
        ),
        ({"reinforce__rewards__declined": -1e308}, "reinforce.rewards.declined"),
        ({"reinforce__rewards__length_target": 12}, "12 is never passed by answers"),
        ({"reinforce__rewards__format_regex": "("}, "'(' is no regular expression"),
        ({"reinforce__verifier": "guess"}, "reinforce.verifier"),
        ({"reinforce__temperature": 0.0}, "reinforce.temperature"),
        ({"loss__z": 1e-4}, "loss.z: belongs to stage pretrain and sft"),
        ({"loss__first_token_weight": 2.0}, "reinforce.loss names; set it to 1"),
        ({"preference__beta": 0.3}, "preference.beta: 0.3 is read by other stages"),
        (
            {"conversations__neftune_alpha": 5.0},
            "conversations.neftune_alpha: 5.0 is read",
        ),
        ({"data__mixture": [{"corpus": "pairs.jsonl"}]}, "data.mixture: is read by other stages"),
        ({"evaluate__every": 2}, "evaluate.every: reinforce has no held-out rows"),
    ],
)
def test_a_contradiction_is_one_line(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    """Catches keys that nobody reads, and a run that fails, or learns nothing, after hours."""
    with pytest.raises(RecipeError) as raised:
        reinforcing_recipe(tmp_path / "run", tmp_path / "base", tmp_path, **keys)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"conversations__system": "Say what you know.", "reinforce__rewards__declined": -1.0},
        {"reinforce__rewards__right": -1.0, "reinforce__rewards__length_target": 4},
        {"reinforce__beta": 0.1, "lora": {}},
        {"reinforce__beta": 0.1, "reinforce__reference": "copy"},
        {
            **{"reinforce__beta": 0.1, "reinforce__reference": "copy"},
            "lora": {"modules_to_save": ["embed_tokens"]},
        },
        {"evaluate__suites": ["known-unknown"], "evaluate__suites_every": 2},
    ],
)
def test_what_means_something_is_accepted(tmp_path: Path, keys: dict[str, Any]) -> None:
    """The negative control: rules that refuse too much."""
    reinforcing_recipe(tmp_path / "run", tmp_path / "base", tmp_path, **keys)


def test_keys_of_reinforce_are_refused_in_another_stage(tmp_path: Path) -> None:
    """Catches a recipe whose stage was forgotten, and that trains something else."""
    with pytest.raises(RecipeError, match=r"reinforce\.beta: is read by stage reinforce"):
        recipe_of(tmp_path / "run", tmp_path, reinforce__beta=0.1)


def test_show_says_what_a_step_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches answers that are shown as rows of text."""
    keys = {"reinforce__updates": 3, "reinforce__passes": 2}
    show(reinforcing_recipe(tmp_path / "run", tmp_path / "base", tmp_path, **keys))
    shown = capsys.readouterr().out
    assert "a step: 4 answers to each of 4 questions" in shown
    assert "a sampling of 48 answers serves 6 steps" in shown
