"""Docstrings that every default rule of curation passes: clean text to plant bad ones among."""

from collections.abc import Sequence

from trainer.corpus.build.chain import text_rules
from trainer.corpus.build.sketches import sketch
from trainer.corpus.rules.rule import Rule
from trainer.demo.docstrings import read_docstrings
from trainer.demo.packages import resolve_packages, source_files
from trainer.errors import RecipeError
from trainer.recipe import CorpusSection

PACKAGES = ("stdlib", "torch")
LEAST_CHARACTERS = 350
MOST_CHARACTERS = 4000
WITH_A_MARGIN = {"quality": {"gopher_quality": {"alphabetic_words": 0.88, "minimum_words": 60}}}
"""A sentence more must not make a clean document a bad one."""
ALIKE = 0.4
"""Estimated similarity above which two documents are not both taken as clean ones."""
SEED = 17
"""Of the hashes by which similarity is estimated."""


def clean_documents(count: int, packages: Sequence[str] = PACKAGES) -> list[str]:
    """`count` docstrings that are long, unlike each other, and pass every default rule easily."""
    import numpy as np

    rules = text_rules(CorpusSection.model_validate({"rules": WITH_A_MARGIN}))
    found: list[str] = []
    sketches = np.empty((0, 128), np.uint32)
    for document in read_docstrings(source_files(resolve_packages(packages))):
        text = document.text
        if not LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
            continue
        passed = _through(rules, text)
        # What the rules made of it is clean when they leave it as it is from then on.
        if passed is None or len(passed) < LEAST_CHARACTERS or _through(rules, passed) != passed:
            continue
        text = passed
        row = sketch([text], SEED)
        if len(sketches) and float((sketches == row).mean(axis=1).max()) > ALIKE:
            continue
        sketches = np.concatenate([sketches, row])
        found.append(text)
        if len(found) == count:
            return found
    raise RecipeError(
        f"only {len(found)} of {count} clean documents are among the docstrings of"
        f" {', '.join(packages)}: ask for fewer (--documents)"
    )


def _through(rules: list[Rule], text: str) -> str | None:
    for rule in rules:
        outcome = rule(text, "")
        if outcome.text is None:
            return None
        text = outcome.text
    return text
