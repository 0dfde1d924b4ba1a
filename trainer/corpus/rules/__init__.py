"""The rules that filter the documents of a corpus, each in a module named by its recipe key.

A key of `corpus.rules` (trainer/recipe/curation.py) is the name of a module in this folder, whose
`DESCRIPTION` (RuleDescription) defines the rule. Rules are applied in the order of the keys.
"""

from functools import cache
from importlib import import_module

from trainer.corpus.rules.rule import Rule, RuleDescription
from trainer.recipe.curation import CurationRules


@cache
def rule_descriptions() -> dict[str, RuleDescription]:
    """The description of every rule by its key in `corpus.rules`, in the order of the keys."""
    return {
        key: import_module(f"{__name__}.{key}").DESCRIPTION for key in CurationRules.model_fields
    }


def rules_of(rules: CurationRules | None, *, behind_duplicates: bool) -> list[Rule]:
    """The recipe's rules that run before, or after, the removal of duplicates, in order."""
    found: list[Rule] = []
    for key in CurationRules.model_fields if rules is not None else ():
        section = getattr(rules, key)
        if section is not None and rule_descriptions()[key].behind_duplicates == behind_duplicates:
            found += rule_descriptions()[key].rules(section)
    return found
