"""Runs the conditions and measures them: from the raw documents to figures over seeds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from launch.experiments.bias.pronouns import pronoun_suite
from launch.experiments.compared import compared
from launch.experiments.data_controls.conditions import CONDITIONS, condition_recipe
from launch.experiments.data_controls.documents import CorpusSize, PlantedCorpus, planted_corpus
from launch.experiments.data_controls.page import SHOWN
from launch.experiments.data_controls.towns import facts_suite
from launch.experiments.measuring import measure
from launch.experiments.small_model import SmallModel
from launch.experiments.tables import machine_of
from launch.experiments.training import trained
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.suites import load_suite
from trainer.evaluate.suites.suite import Suite, SuiteContext

if TYPE_CHECKING:
    from trainer.corpus.build.canaries import Canary
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.opened import OpenedModel
    from trainer.evaluate.respondent import Respondent

SEEDS = 3
"""Seeds of the command that names none."""
SMALL = CorpusSize(16, 6, 2, 4, 16, 2, 3, 1, 2, (1, 4))
"""A corpus of a test, made in a second or two."""
BUILT_IN = ("perplexity", "memorisation", "occurrence", "bias", "known-unknown")
LIMITS = {"bias": 112, "known-unknown": 20, "occurrence": 80, "memorisation": 100}
"""Items of suites of which fewer do, or that so small a model fails whatever its data."""


class PlantedText(GivenText):
    """The raw documents, which say what was planted in them."""

    def __init__(self, planted: PlantedCorpus) -> None:
        super().__init__([str(planted.raw)])
        self._planted = planted

    def canaries(self) -> list[tuple[str, "Canary"]]:
        """The planted canaries, whatever of them a corpus has kept."""
        return [("raw", canary) for canary in self._planted.canaries]


def run_experiment(
    folder: Path,
    seeds: Sequence[int],
    limit: int | None = None,
    built_in: Sequence[str] = BUILT_IN,
) -> dict[str, Any]:
    """Both conditions with each seed, measured; the figures as JSON.

    `limit`: steps of a small form; None: the experiment; `built_in`: suites of the house that are
    asked. Runs that have ended are not run again.
    """
    size, corpus_size = SmallModel(), CorpusSize()
    if limit is not None:
        size, corpus_size = SmallModel(limit, 32, 2), SMALL
    planted = planted_corpus(corpus_size, folder)
    suites = [*map(load_suite, built_in), facts_suite(planted.facts, 0), pronoun_suite()]
    texts = (
        PlantedText(planted),
        GivenText([str(planted.clean)]),
        GivenText([str(planted.held_out)]),
    )
    remarks: dict[str, list[str]] = {}

    def context_of(
        model: "OpenedModel", respondent: "ModelRespondent", suite: Suite
    ) -> SuiteContext:
        from trainer.evaluate.text_pieces import WindowsOfText

        raw, clean, held_out = texts
        return SuiteContext(
            respondent,
            own=clean if suite.name == "occurrence" else raw,
            held_out=WindowsOfText(held_out, model.tokenizer, model.longest),
        )

    limits = LIMITS if limit is None else {suite.name: 32 for suite in suites}
    for seed in seeds:
        for condition in reversed(CONDITIONS):  # the curated corpus has the tokenizer of both
            recipe = condition_recipe(condition, planted.raw, folder, seed, size)
            run = trained(recipe)
            found = measure(run, suites, folder / "records" / run.name, context_of, limits)
            if condition == "curated":
                remarks = found
    records = {
        condition: [folder / "records" / f"{condition}-{seed}" for seed in seeds]
        for condition in CONDITIONS
    }
    no_model = cast("Respondent", None)  # which figures of records do not ask
    context = SuiteContext(no_model, own=texts[0])
    return {
        "command": "python -m launch.experiments.data_controls"
        + ("" if limit is None else f" --limit {limit}")
        + ("" if len(seeds) == SEEDS else f" --seeds {len(seeds)}"),
        "environment": machine_of(folder / f"raw-{seeds[0]}"),
        "seeds": list(seeds),
        "trained": {"steps": size.steps, "hidden": size.hidden, "layers": size.layers},
        "documents": planted.documents,
        "corpora": {name: _corpus_of(folder / name) for name in CONDITIONS},
        "funnel": _funnel_of(folder / "curated"),
        "remarks": remarks,
        "figures": compared(records, suites, context, dict(SHOWN)),
    }


def _corpus_of(folder: Path) -> dict[str, int]:
    """Documents and tokens of a corpus's training split."""
    from trainer.data.manifest import load_manifest

    split = load_manifest(folder).splits["train"]
    return {"documents": split.documents, "tokens": split.tokens}


def _funnel_of(folder: Path) -> list[list[Any]]:
    """(step, documents that it leaves) of a corpus's build."""
    funnel = json.loads((folder / "curation.json").read_bytes())["funnel"]
    return [[row["step"], row["documents"]] for row in funnel]
