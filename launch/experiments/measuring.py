"""Suites on a checkpoint, of the house and of an experiment's own, with records that are gone on
with: what an experiment measures beside `lyceum evaluate`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import SuiteUnavailable
from trainer.evaluate.suites.suite import Suite, SuiteContext
from trainer.files import write_whole

if TYPE_CHECKING:
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.opened import OpenedModel

ContextOf = Callable[["OpenedModel", "ModelRespondent", Suite], SuiteContext]
"""From a model and a suite to what the suite's items are made from."""


def measure(
    checkpoint: Path,
    suites: Sequence[Suite],
    records: Path,
    context_of: ContextOf,
    limits: Mapping[str, int],
) -> dict[str, list[str]]:
    """Ask a checkpoint all suites; SUITE.jsonl in `records` has the items.

    `limits`: items of some suites at most, by their names.

    Returns, by suite, what forbids to read its figures as they seem: the suite's own remarks, or
    why it has nothing to ask. What was measured before is not asked again.
    """
    done = records / "measured.json"
    wanted = {
        suite.name: [suite.rules, dict(suite.options), limits.get(suite.name)] for suite in suites
    }
    if done.is_file():
        known = json.loads(done.read_bytes())
        if known["suites"] == json.loads(json.dumps(wanted)):
            remarks: dict[str, list[str]] = known["remarks"]
            return remarks
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.examination import examine, prepare
    from trainer.evaluate.opened import open_model
    from trainer.parallel.agreement import Ranks

    found: dict[str, list[str]] = {}
    with open_model(checkpoint, 1) as model:
        respondent, ranks = ModelRespondent.of(model), Ranks()
        for suite in suites:
            context = replace(context_of(model, respondent, suite), limit=limits.get(suite.name))
            try:
                result = examine(prepare(suite, context, ranks), respondent, ranks, records)
            except SuiteUnavailable as error:
                found[suite.name] = [str(error)]
                continue
            found[suite.name] = list(result.remarks)
    records.mkdir(parents=True, exist_ok=True)
    write_whole(done, json.dumps({"suites": wanted, "remarks": found}, indent=2) + "\n")
    return found
