"""Suites on a checkpoint, of the house and of an experiment's own, with records that are gone on
with: what an experiment measures beside `lyceum evaluate`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.experiments.made_of import checkpoint_digest
from launch.local import result_on_ranks
from trainer.errors import SuiteUnavailable
from trainer.evaluate.suites.suite import Suite, SuiteContext
from trainer.files import write_whole
from trainer.parallel.join import as_one_process

if TYPE_CHECKING:
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.examination import ItemsDone
    from trainer.evaluate.opened import OpenedModel
    from trainer.recipe.recipe import Precision

ContextOf = Callable[["OpenedModel", "ModelRespondent", Suite], SuiteContext]
"""From a model and a suite to what the suite's items are made from."""


def measure(
    checkpoint: Path,
    suites: Sequence[Suite],
    records: Path,
    context_of: ContextOf,
    limits: Mapping[str, int],
    advance: "ItemsDone" = lambda suite, done, items: None,
    nproc: int | None = None,
    precision: "Precision | None" = None,
) -> dict[str, list[str]]:
    """Ask a checkpoint all suites; SUITE.jsonl in `records` has the items.

    `limits`: items of some suites at most, by their names; `nproc`: ranks of this machine's CPU
    that share the items, each with the whole model (None: this process alone); `precision`: in
    which the model is read (None: in its own).

    Returns, by suite, what forbids to read its figures as they seem: the suite's own remarks, or
    why it has nothing to ask. What this checkpoint was asked before is not asked again; the answers
    of another one are set aside.
    """
    done = records / "measured.json"
    of = {"checkpoint": checkpoint_digest(checkpoint)}
    if precision is not None:
        of["precision"] = precision
    found: dict[str, Any] = json.loads(done.read_bytes()) if done.is_file() else {}
    wanted: dict[str, dict[str, Any]] = {
        suite.name: {
            **of,
            "rules": suite.rules,
            "options": json.loads(json.dumps(dict(suite.options))),
            "limit": limits.get(suite.name),
        }
        for suite in suites
    }
    left = [one for one in suites if not _is_of(found.get(one.name), wanted[one.name])]
    if left:
        examined = partial(
            _examined, checkpoint, left, records, context_of, limits, of, advance, nproc or 1
        )
        with as_one_process():
            remarks = examined() if nproc is None else result_on_ranks(examined, nproc)
        found |= {one.name: {**wanted[one.name], "remarks": remarks[one.name]} for one in left}
        records.mkdir(parents=True, exist_ok=True)
        write_whole(done, json.dumps(found, indent=2) + "\n")
    return {one.name: list(found[one.name]["remarks"]) for one in suites}


def _is_of(found: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a note of measured.json is of what is wanted."""
    return isinstance(found, dict) and found.items() >= wanted.items()


def _examined(
    checkpoint: Path,
    suites: Sequence[Suite],
    records: Path,
    context_of: ContextOf,
    limits: Mapping[str, int],
    of: Mapping[str, str],
    advance: "ItemsDone",
    nproc: int,
) -> dict[str, list[str]]:
    """Ask the suites; their remarks by name."""
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.examination import examine, prepare
    from trainer.evaluate.opened import open_model
    from trainer.parallel.agreement import Ranks

    found: dict[str, list[str]] = {}
    # As replicas: ranks that share a model's layers or sums wait for each other at every token.
    keys = ["parallel.tensor=1"]
    keys += [f"precision={of['precision']}"] if "precision" in of else []
    with open_model(checkpoint, nproc, keys) as model:
        respondent = ModelRespondent.of(model)
        ranks = Ranks(model.layout.hosts)
        for suite in suites:
            context = replace(context_of(model, respondent, suite), limit=limits.get(suite.name))
            try:
                prepared = prepare(suite, context, ranks)
                result = examine(prepared, respondent, ranks, records, of, advance)
            except SuiteUnavailable as error:
                found[suite.name] = [str(error)]
                continue
            found[suite.name] = list(result.remarks)
    return found
