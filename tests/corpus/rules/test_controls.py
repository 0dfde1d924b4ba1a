"""A control says everything about itself in one file; chain, card and README read it there."""

from pathlib import Path

import pytest

from trainer.corpus.build.chain import text_rules
from trainer.corpus.rules import rule_descriptions
from trainer.recipe import CorpusSection
from trainer.recipe.curation import CurationRules

README = Path(__file__).parents[3] / "README.md"

SETS = {"decontaminate": {"sets": [{"name": "quiz", "file": "quiz.jsonl"}]}}
ALL = {"balance": {"counterfactual": 0.5}, **SETS}
ORDER = [
    *("minimum length", "normalize", "language"),
    *("gopher repetition", "gopher quality", "c4", "fineweb"),
    *("personal", "toxicity", "counterfactual", "decontaminate"),
]


def test_every_key_of_the_recipe_has_its_control() -> None:
    """Would catch a key of corpus.rules that no rule reads, and an order that is not the keys'."""
    assert list(rule_descriptions()) == list(CurationRules.model_fields)


def test_rules_are_applied_in_the_order_of_their_keys() -> None:
    """Would catch a rule on the wrong side of the removal of duplicates, or left out."""
    rules = text_rules(CorpusSection.model_validate({"rules": ALL}))
    assert [rule.name for rule in rules] == ORDER


@pytest.mark.parametrize("key", list(CurationRules.model_fields))
def test_a_control_that_is_left_out_judges_nothing(key: str) -> None:
    """Would catch a `null` that leaves a rule in."""
    whole = text_rules(CorpusSection.model_validate({"rules": ALL}))
    without = text_rules(CorpusSection.model_validate({"rules": {**ALL, key: None}}))
    count = len(rule_descriptions()[key].rules(getattr(CurationRules.model_validate(ALL), key)))
    assert count and len(without) == len(whole) - count


def test_the_files_that_controls_name_are_known() -> None:
    """Would catch a word list or an evaluation set whose change leaves a cached corpus in use."""
    rules = CurationRules.model_validate({**SETS, "toxicity": {"words": "more.txt"}})
    found = {
        key: control.files(getattr(rules, key)) for key, control in rule_descriptions().items()
    }
    assert {key: files for key, files in found.items() if files} == {
        "toxicity": ["more.txt"],
        "decontaminate": ["quiz.jsonl"],
    }


def test_the_readme_says_what_each_control_does() -> None:
    """Would catch a table at the front door that no longer tells what the rules do."""
    text = README.read_text(encoding="utf-8")
    assert all(f"| `{key}` | {rule.summary} |" in text for key, rule in rule_descriptions().items())
