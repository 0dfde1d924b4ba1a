"""What suites found of a run: RUN/evaluations, and what `lyceum evaluate --json` wrote there."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.checkpoint.format import FOLDER_NAME
from trainer.errors import RecipeError
from trainer.evaluate.gates import GateVerdict, check_gates
from trainer.evaluate.intervals import Figure
from trainer.evaluate.suite_result import SuiteResult
from trainer.recipe.gates import parse_gate
from trainer.report.reading.run_record import RunRecord, json_object

EVALUATIONS, BASE, FIGURES = "evaluations", "base", "figures.json"
"""As the examiner of a run names them; its own module loads torch, which a report does without."""
_MOST_FILES = 400


@dataclass(frozen=True)
class StoredExamination:
    """What suites found of one model.

    `step`: after which it was measured, None for a model that the run did not make, its base;
    `named`: the file of an evaluation by command, empty for the run's own; `asked`: by suite, what
    follows from all that is asked; `records`: the folder of its records; `settings`: of an
    evaluation by command; `gates`: verdicts that are stored with it, as (gate, passed, line).
    """

    step: int | None
    suites: Mapping[str, SuiteResult]
    records: Path
    named: str = ""
    asked: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    gates: tuple[tuple[str, bool, str], ...] = ()

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures, by SUITE/FIGURE."""
        return {
            f"{suite}/{name}": figure
            for suite, result in self.suites.items()
            for name, figure in result.figures.items()
        }

    @property
    def label(self) -> str:
        """Which model it is of."""
        if self.named:
            return f"{self.named}, step {self.step:,}" if self.step else self.named
        return "base" if self.step is None else f"step {self.step:,}"


def read_examinations(run: Path) -> list[StoredExamination]:
    """Those of a run: its base's first, then by step, those by command last of a step.

    What is damaged, or no examination, is left out.
    """
    folder = run / EVALUATIONS
    found = [one for path in _listed(folder) for one in _of_folder(path)]
    found += [one for path in [*_listed(run), *_listed(folder)] for one in _of_report(path, run)]
    return sorted(found, key=lambda one: (one.step is not None, one.step or 0, bool(one.named)))


def verdicts_of(record: RunRecord, examined: StoredExamination) -> list[GateVerdict]:
    """How the run's gates judge an examination of it, as the run itself was judged."""
    texts = record.key("evaluate.gates") or ()
    base = next((one for one in _base_of(record.folder)), None)
    gates = []
    for text in texts:
        try:
            gates.append(parse_gate(str(text), "evaluate.gates"))
        except RecipeError:  # of another version: its text is in the recipe all the same
            continue
    return check_gates(gates, examined.suites, {} if base is None else base.figures)


def _base_of(run: Path) -> Iterator[StoredExamination]:
    yield from _of_folder(run / EVALUATIONS / BASE)


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder; of too much the last steps, and all that is of none, as the base."""
    try:
        found = sorted(folder.iterdir(), key=lambda path: (not _is_of_step(path), path))
    except OSError:
        return []
    return found[-_MOST_FILES:]


def _is_of_step(path: Path) -> bool:
    return FOLDER_NAME.fullmatch(path.name) is not None


def _of_folder(folder: Path) -> Iterator[StoredExamination]:
    match = FOLDER_NAME.fullmatch(folder.name)
    if match is None and folder.name != BASE:
        return
    suites = json_object(folder / FIGURES).get("suites")
    if not isinstance(suites, dict):
        return
    results, asked = {}, {}
    for name, stored in suites.items():
        try:
            results[str(name)] = SuiteResult.of_json(stored["result"])
            asked[str(name)] = str(stored["settings"].get("asked"))
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            continue
    if results:
        step = None if match is None else int(match[1])
        yield StoredExamination(step, results, folder, asked=asked)


def _of_report(path: Path, run: Path) -> Iterator[StoredExamination]:
    """What `lyceum evaluate --json` wrote of a run or its base; nothing for any other file."""
    if path.suffix != ".json" or not path.is_file() or path.stat().st_size > 1 << 24:
        return
    content = json_object(path)
    try:
        results = {
            str(suite): SuiteResult(
                figures={str(name): Figure.of_json(one) for name, one in figures.items()},
                items=int(content["items"][suite]),
                failed=dict(content.get("failed", {}).get(suite, {})),
                remarks=tuple(map(str, content.get("remarks", {}).get(suite, ()))),
            )
            for suite, figures in content["figures"].items()
        }
        of_run = f"{run.name}/checkpoints/" in f"{content['checkpoint']}/"
        step = int(content["step"]) if of_run else None
        gates = tuple(
            (str(one["gate"]), bool(one["passed"]), str(one["line"]))
            for one in content.get("gates", ())
        )
        settings = dict(content["settings"])
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return
    if results:
        beside = path.with_name(f"{path.stem}.records")
        records = beside if beside.is_dir() else Path(str(content.get("records", beside)))
        key = json.dumps(settings, sort_keys=True, default=str)
        yield StoredExamination(
            *(step, results, records, path.stem, dict.fromkeys(results, key), settings, gates)
        )
