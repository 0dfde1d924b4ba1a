"""A small model on a corpus with skewed mentions, with counterfactual data and without.

Two conditions, of the same first weights, tokenizer and number of tokens:

- *skewed*: nine texts of ten give an occupation the pronoun of prejudice;
- *beside*: the same documents, each with its counterfactual beside it
  (`corpus.rules.balance.counterfactual` of 1).

Docstrings stand between the texts, and utility is how well further ones are predicted.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from launch.experiments.bias.occupations import occupation_texts, occupations
from launch.experiments.bias.page import SHOWN
from launch.experiments.bias.pronouns import FIGURES, pronoun_suite
from launch.experiments.compared import compared
from launch.experiments.measuring import measure
from launch.experiments.over_seeds import figure_over_seeds, read_records
from launch.experiments.small_model import SmallModel, small_recipe
from launch.experiments.tables import machine_of
from launch.experiments.training import trained
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.suites import load_suite
from trainer.evaluate.suites.suite import Suite, SuiteContext
from trainer.files import write_whole
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.opened import OpenedModel
    from trainer.evaluate.respondent import Respondent

SEED = 15
SKEW = 0.9
"""Share of the documents whose pronouns are those of prejudice."""
BALANCE: dict[str, dict[str, Any] | None] = {
    "skewed": None,
    "beside": {"counterfactual": 1.0},
}
WITHOUT_RULES = {"normalize", "language", "quality", "personal", "toxicity", "decontaminate"}


@dataclass(frozen=True)
class BiasSize:
    """How many documents of each occupation, docstrings between them, and held-out docstrings."""

    documents: int = 20
    docstrings: int = 40
    held_out: int = 30


def run_small_models(
    folder: Path, seeds: Sequence[int], limit: int | None = None
) -> dict[str, Any]:
    """All conditions with each seed, measured; the figures as JSON.

    `limit`: steps of a small form. Runs that have ended are not run again.
    """
    size, model_size = BiasSize(), SmallModel(steps=500, layers=2, vocabulary=1024)
    if limit is not None:
        size, model_size = BiasSize(2, 8, 4), SmallModel(limit, 32, 2)
    held_out = _write_documents(folder, size)
    suites = [pronoun_suite(), load_suite("perplexity")]

    def context_of(
        model: "OpenedModel", respondent: "ModelRespondent", suite: Suite
    ) -> SuiteContext:
        from trainer.evaluate.text_pieces import WindowsOfText

        text = WindowsOfText(GivenText([str(held_out)]), model.tokenizer, model.longest)
        return SuiteContext(respondent, held_out=text)

    limits = {} if limit is None else {"pronouns": 120, "perplexity": 8}
    for seed in seeds:
        for condition in BALANCE:
            recipe = _recipe(condition, folder, seed, model_size)
            run = trained(recipe)
            measure(run, suites, folder / "records" / run.name, context_of, limits)
    records = {
        condition: [folder / "records" / f"{condition}-{seed}" for seed in seeds]
        for condition in BALANCE
    }
    context = SuiteContext(cast("Respondent", None))  # which figures of records do not ask
    return {
        "environment": machine_of(folder / f"skewed-{seeds[0]}"),
        "seeds": list(seeds),
        "trained": {
            "steps": model_size.steps,
            "hidden": model_size.hidden,
            "layers": model_size.layers,
        },
        "occupations": len(occupations()),
        "documents_an_occupation": size.documents,
        "gap_by_seed": {
            condition: [_gap(one) for one in of_seeds] for condition, of_seeds in records.items()
        },
        "figures": compared(records, suites, context, dict(SHOWN)),
    }


def _gap(records: Path) -> float:
    """The gap of one run."""
    figure = figure_over_seeds(FIGURES["gap"], [read_records(records, "pronouns")])
    assert figure is not None, "every question counts for the gap"
    return figure.value


def held_out_text(folder: Path) -> Path:
    """Docstrings that no condition reads."""
    return folder / "held-out.jsonl"


def documents_text(folder: Path) -> Path:
    """What conditions are made of: texts about occupations, between docstrings."""
    return folder / "documents.jsonl"


def _recipe(condition: str, folder: Path, seed: int, size: SmallModel) -> Recipe:
    """The recipe of `folder`/CONDITION-SEED; all read by the tokenizer of the skewed corpus."""
    documents = documents_text(folder)
    rules = {**dict.fromkeys(WITHOUT_RULES), "balance": BALANCE[condition]}
    controls = {"rules": rules, "near_duplicates": None}
    tokenizer = None if condition == "skewed" else folder / "skewed" / "tokenizer"
    run, corpus = folder / f"{condition}-{seed}", folder / condition
    return small_recipe(run, documents, corpus, controls, seed, size, tokenizer)


def _write_documents(folder: Path, size: BiasSize) -> Path:
    """Write the documents of each skew, where they are not, and return the held-out ones' file."""
    held_out = held_out_text(folder)
    if held_out.is_file():  # which is written last
        return held_out
    from trainer.demo.clean_docstrings import clean_documents

    found = clean_documents(size.docstrings + size.held_out, ("stdlib",))
    dice = random.Random(SEED)
    dice.shuffle(found)
    docstrings = [(f"docstring:{n}", text) for n, text in enumerate(found)]
    folder.mkdir(parents=True, exist_ok=True)
    texts = occupation_texts(occupations(), size.documents, SKEW, SEED)
    _write(documents_text(folder), texts + docstrings[: size.docstrings], dice)
    _write(held_out, docstrings[size.docstrings :], dice)
    return held_out


def _write(file: Path, documents: Sequence[tuple[str, str]], dice: random.Random) -> None:
    lines = [json.dumps({"id": name, "text": text}) for name, text in documents]
    dice.shuffle(lines)
    write_whole(file, "\n".join(lines) + "\n")
