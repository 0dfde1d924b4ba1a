"""What `lyceum evaluate` shows and writes: one table, one JSON, and what was not measured."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainer.errors import RecipeError
from trainer.evaluate.examination import ItemsDone
from trainer.evaluate.gates import GateVerdict
from trainer.evaluate.intervals import Figure
from trainer.evaluate.suite_result import SuiteResult
from trainer.evaluate.suites import MODULES, load_suite
from trainer.evaluate.suites.other_script import ENGLISH_ALONE, OTHER_SCRIPT

_SECONDS_BETWEEN_LINES = 10.0
_PLAIN = {"perplexity", "occurrence", "memorisation"}
"""Built-in suites that ask no questions: text is gone on with as it is."""
_WIDTH = 120
"""Columns of a table that goes into a file."""


@dataclass
class EvaluationReport:
    """An evaluation as it grows: `results` by suite, `missing`: why a suite has none.

    `settings`: what decides the figures beside the model, and `layout`: on which ranks and in which
    precision it ran, as JSON; `records`: the folder of the item-level records; `chats`: whether
    questions went through a chat template; `verdicts`: on the gates.
    """

    checkpoint: str
    step: int
    settings: Mapping[str, Any]
    layout: Mapping[str, Any]
    records: Path
    chats: bool
    results: dict[str, SuiteResult] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    verdicts: list[GateVerdict] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON: `suites` has each figure's value alone, `figures` all of it."""
        return {
            "checkpoint": self.checkpoint,
            "step": self.step,
            "settings": dict(self.settings),
            "layout": dict(self.layout),
            "chat_template": self.chats,
            "records": str(self.records),
            "suites": {
                suite: {name: _value(figure.value) for name, figure in result.figures.items()}
                for suite, result in self.results.items()
            },
            "figures": {
                suite: {name: figure.as_json() for name, figure in result.figures.items()}
                for suite, result in self.results.items()
            },
            "items": {suite: result.items for suite, result in self.results.items()},
            "failed": {
                suite: result.failed for suite, result in self.results.items() if result.failed
            },
            "remarks": {
                suite: list(result.remarks)
                for suite, result in self.results.items()
                if result.remarks
            },
            "missing": self.missing,
            "gates": [
                {"gate": one.gate.text, "passed": one.passed, "line": one.line}
                for one in self.verdicts
            ],
        }

    def show(self) -> None:
        """Print the table, then what was not measured, and where the records are."""
        console = Console(soft_wrap=True, highlight=False, markup=False)
        if not console.is_terminal:
            console.width = max(console.width, _WIDTH)
        if self.results:
            console.print(self._table())
        for suite, result in self.results.items():
            if result.failed:
                console.print(f"{suite}: {result.failures}")
            for remark in result.remarks:
                console.print(f"{suite}: {remark}")
        if judged := [one for one in self.results if OTHER_SCRIPT in self.results[one].figures]:
            console.print(f"{', '.join(judged)}: {ENGLISH_ALONE}")
        for suite, reason in self.missing.items():
            console.print(f"not measured: {reason if suite in reason else f'{suite}: {reason}'}")
        for verdict in self.verdicts:
            console.print(f"gate {'passed' if verdict.passed else 'failed'}: {verdict.line}")
        if not self.chats and self.results.keys() & MODULES.keys() - _PLAIN:
            console.print('no chat template: questions are asked as "Question: ...", "Answer:"')
        if self.results:
            console.print(f"each item: {self.records}")

    def _table(self) -> Table:
        searched = any(
            figure.in_corpus is not None
            for result in self.results.values()
            for figure in result.figures.values()
        )
        table = Table(
            title=f"{self.checkpoint}, step {self.step}", title_justify="left", box=SIMPLE
        )
        table.add_column("suite", no_wrap=True)
        # On a narrow terminal a name goes on in the next line; a number is never cut.
        table.add_column("figure", overflow="fold")
        for column in ("value", "95% interval", "items", *(["in corpus"] if searched else [])):
            table.add_column(column, justify="right", no_wrap=True)
        for suite, result in self.results.items():
            for number, (name, figure) in enumerate(result.figures.items()):
                cells = [_shown(figure.value), _interval(figure), f"{figure.items:,}"]
                if searched:
                    cells.append("" if figure.in_corpus is None else f"{figure.in_corpus:,}")
                table.add_row("" if number else suite, name, *cells)
            table.add_section()
        return table


def _value(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) > 1 else value


def _shown(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value.is_integer() and abs(value) > 1 else f"{value:,.4f}"


def _interval(figure: Figure) -> str:
    """Empty for what is only counted: a whole number, of which neither more nor less is good."""
    counted = figure.better is None and figure.value.is_integer() and abs(figure.value) > 1
    if counted or not (math.isfinite(figure.low) and math.isfinite(figure.high)):
        return ""
    return f"{_shown(figure.low)} to {_shown(figure.high)}"


def figures_in(file: Path, settings: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures, by SUITE/FIGURE, of a report that was written with these settings.

    Raises RecipeError for a file that is no such report.
    """
    try:
        content = json.loads(file.read_bytes())
        found = {
            f"{suite}/{name}": Figure.of_json(parts)
            for suite, figures in content["figures"].items()
            for name, parts in figures.items()
        }
        written = content["settings"]
    except OSError as error:
        raise RecipeError(f"--base {file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        raise RecipeError(f"--base {file}: is not what lyceum evaluate --json writes") from None
    if differing := [key for key, value in settings.items() if written.get(key) != value]:
        raise RecipeError(
            f"--base {file}: was measured with another {differing[0]}"
            f" ({written.get(differing[0])}); measure it as this model is"
        )
    return found


def show_suites() -> None:
    """Print what each built-in suite measures, what it does not, and its source."""
    for name in MODULES:
        suite = load_suite(name)
        print(f"{name}\n  measures: {suite.measures}\n  does not: {suite.leaves_out}")
        print(f"  source: {suite.source}")


@contextmanager
def shown_progress(reports: bool) -> Iterator[ItemsDone]:
    """A bar of a suite's items on a terminal; elsewhere a line every ten seconds at most.

    `reports`: whether this rank shows anything.
    """
    console = Console(stderr=True)
    if not reports:
        yield lambda suite, done, items: None
        return
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(TextColumn("{task.description}"), *columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def advance(suite: str, done: int, items: int) -> None:
            if bar.tasks[task].description != suite:
                bar.reset(task, description=suite, total=items, completed=done)
            bar.update(task, completed=done, total=items)

        yield advance


class _Lines:
    """Progress without a terminal."""

    def __init__(self) -> None:
        self._printed = time.monotonic()

    def __call__(self, suite: str, done: int, items: int) -> None:
        now = time.monotonic()
        if now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            print(f"{suite}: {done:,} of {items:,} items", file=sys.stderr, flush=True)
