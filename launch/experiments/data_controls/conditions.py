"""The two conditions: one recipe that reads all documents, or what our controls leave of them.

Both models have the same shape, first weights, tokenizer (that of the curated corpus) and number of
tokens: the curated corpus is smaller, and read more often.
"""

from pathlib import Path
from typing import Any

from launch.experiments.small_model import SmallModel, small_recipe
from trainer.recipe import Recipe

CURATED: dict[str, Any] = {"rules": {"balance": {"counterfactual": 1.0}}}
"""The default rules, and counterfactual copies beside all texts with gendered terms."""
RAW: dict[str, Any] = {
    "rules": None,
    "exact_duplicates": False,
    "near_duplicates": None,
    "minimum_characters": 1,
}
CONDITIONS = {"raw": RAW, "curated": CURATED}


def condition_recipe(
    condition: str, documents: Path, folder: Path, seed: int, size: SmallModel
) -> Recipe:
    """The recipe of one run: `folder`/CONDITION-SEED, on the corpus `folder`/CONDITION."""
    tokenizer = None if condition == "curated" else folder / "curated" / "tokenizer"
    run, corpus = folder / f"{condition}-{seed}", folder / condition
    return small_recipe(run, documents, corpus, CONDITIONS[condition], seed, size, tokenizer)
