"""What each model of the experiment is asked, by the code of `lyceum evaluate`.

Records lie in a folder a model, a line an item; what is there is not asked again.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from launch.experiments.measuring import measure
from launch.experiments.over_seeds import read_records
from launch.experiments.smollm2_figures import docstrings
from launch.experiments.truth import held_out_suite, instructions_suite
from launch.experiments.truth.chain import RANKS
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.examination import ItemsDone
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.opened import OpenedModel
from trainer.evaluate.suites import load_suite
from trainer.evaluate.suites.suite import ItemRecord, Suite, SuiteContext
from trainer.evaluate.text_pieces import TOKENS_READ, WindowsOfText
from trainer.recipe.recipe import Precision

HELD_OUT = held_out_suite.SUITE
SUITES: Mapping[str, tuple[Suite, int | None]] = {
    one.name: (one, limit)
    for one, limit in (
        (HELD_OUT, None),
        (instructions_suite.SUITE, None),
        (load_suite("perplexity"), 512),
        (load_suite("bias"), None),
    )
}
"""The suites by name, and how many items of each; None: all."""
PRECISION: Precision = "bf16"
"""In which every model is read, the base too, whose file has fp16: as the recipes train."""


def measured(
    checkpoint: Path, folder: Path, names: Sequence[str], limit: int | None
) -> dict[str, list[ItemRecord]]:
    """The records of a model by suite, in the order of their ids; those that failed are left out.

    `limit`: items of each suite at most. Raises DataError where a suite had nothing to ask.
    """
    bounds = {name: [n for n in (limit, SUITES[name][1]) if n is not None] for name in names}
    limits = {name: min(bound) for name, bound in bounds.items() if bound}
    # Written here, as no two ranks should.
    files = [str(docstrings())] if "perplexity" in names else []
    text = cache(lambda: GivenText(files))

    def context_of(model: OpenedModel, respondent: ModelRespondent, suite: Suite) -> SuiteContext:
        windows = WindowsOfText(text(), model.tokenizer, model.longest, 3 * TOKENS_READ)
        return SuiteContext(respondent, held_out=windows)

    suites = [SUITES[name][0] for name in names]
    measure(checkpoint, suites, folder, context_of, limits, _say(folder), RANKS, PRECISION)
    return {name: records_of(folder, name) for name in names}


def _say(folder: Path) -> ItemsDone:
    """Says of each suite that it is through."""

    def say(suite: str, items: int, of: int) -> None:
        if items == of:
            print(f"{folder.name}: {suite}: {of:,} items", flush=True)

    return say


def records_of(folder: Path, name: str) -> list[ItemRecord]:
    """The answered items of a suite in a folder of records, in the order of their ids."""
    return sorted(read_records(folder, name).values(), key=lambda one: str(one["id"]))
