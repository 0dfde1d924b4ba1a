"""One evaluation by `lyceum evaluate`: what it prepares, measures, judges and shows."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from trainer.checkpoint.format import MANIFEST
from trainer.errors import (
    DataError,
    GateError,
    LyceumError,
    RecipeError,
    StopRequested,
    SuiteUnavailable,
    TrainingError,
    error_of,
    note_of,
)
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.evaluation_report import EvaluationReport
from trainer.evaluate.examination import ItemsDone, PreparedSuite, examine, prepare
from trainer.evaluate.facts.plot import plot_occurrence
from trainer.evaluate.gate_bases import base_of_report, base_of_run, require_same_items
from trainer.evaluate.gates import check_gates, require_figure, require_figures
from trainer.evaluate.harness.task_suite import TaskSettings, task_suite
from trainer.evaluate.opened import OpenedModel, reading_keys
from trainer.evaluate.options import EvaluationOptions
from trainer.evaluate.own_text import EvaluationText, text_of
from trainer.evaluate.records import NAME_ANOTHER, file_name
from trainer.evaluate.respondent import NOT_FINITE
from trainer.evaluate.stopping import ExaminationStopped, StoppableRespondent, asked_to_stop
from trainer.evaluate.suite_result import SuiteResult
from trainer.evaluate.suites import MODULES, load_suite
from trainer.evaluate.suites.suite import Suite, SuiteContext
from trainer.files import cache_folder, is_stdout, write_output
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.recipe.gates import Gate
from trainer.recovery import FolderLock, StopSignals

KEPT = "items that are answered are kept, and the same command goes on from them"
"""What a stopped evaluation says."""


class Evaluation:
    """One evaluation, the same on all ranks: a model, what it is asked, what has been found.

    Collective, in this order: `only_writer` around `prepare`, `measure` and `finish`. Raises
    RecipeError where a gate has no base to compare with, DataError for text that is named badly.
    """

    def __init__(
        self,
        model: OpenedModel,
        options: EvaluationOptions,
        gates: Sequence[Gate],
        json_file: Path | None,
    ) -> None:
        self._model, self._options, self._ranks = model, options, Ranks()
        self._gates = gates
        self._respondent = ModelRespondent.of(model)
        # Items are made on the first rank: it alone reads and searches.
        self._text = EvaluationText()

        def open_text() -> None:
            self._text = text_of(model, options.corpora, options.texts)

        on_first_rank(self._ranks, open_text)
        self._identity = {"checkpoint": _digest((model.folder / MANIFEST).read_bytes())}
        if "precision" in (named := reading_keys(options.overrides)):
            self._identity["precision"] = named["precision"]
        settings = {
            "seed": options.seed,
            "limit": options.limit,
            "shots": options.shots,
            "chat": options.chat,
            "system": options.system,
            "corpora": list(options.corpora),
            "texts": list(options.texts),
        }
        records = options.records or _records_of(json_file, {**self._identity, **settings})
        parallel = model.recipe.parallel.model_dump(mode="json")
        layout = {
            "precision": model.recipe.precision,
            "ranks": model.layout.world_size,
            "parallel": parallel,
        }
        # What the cache made of another program's model says nothing to who named it.
        shown = model.source or str(model.folder)
        self.report = EvaluationReport(
            shown, model.step, settings, layout, records, self._respondent.chats
        )
        self._run = model.folder.parent.parent
        self._base = (
            base_of_run(gates, self._run)
            if options.base is None
            else base_of_report(gates, options.base, settings)
        )
        self._prepared: dict[str, PreparedSuite] = {}
        self._errors: list[LyceumError] = []

    @contextmanager
    def only_writer(self, names: Sequence[str]) -> Iterator[None]:
        """A block in which nobody else evaluates these suites into the same records; collective.

        Raises RecipeError where another process does.
        """
        folder = self.report.records

        def hold() -> None:
            for name in names:
                lock = f".{file_name(name)}.lock"
                held.enter_context(FolderLock(folder, f"{name} in", NAME_ANOTHER, lock))

        with ExitStack() as held:
            on_first_rank(self._ranks, hold)
            yield

    def prepare(self, names: Sequence[str], required: bool) -> None:
        """Make the items of suites; that one has none here is an error only if `required`.

        Raises RecipeError for a gate on a figure that none of them gives.
        """
        self._required = required
        text, options = self._text, self._options
        self._context = SuiteContext(
            self._respondent,
            options.seed,
            options.limit,
            own=text.own,
            held_out=text.held_out,
            trained_on=text.trained_on,
        )
        for name in names:
            try:
                self._prepared[name] = prepare(self._suite(name), self._context, self._ranks)
            except SuiteUnavailable as error:
                because = self._because(error) if name in MODULES else error
                self._missing(name, because, required)
            except LyceumError as error:
                self._missing(name, error, required=True)
        on_first_rank(self._ranks, self._check_gates)

    def _suite(self, name: str) -> Suite:
        if name in MODULES:
            return load_suite(name)
        options = self._options
        trained = self._model.trained
        settings = TaskSettings(
            options.tasks_path, options.shots, options.chat, options.system, trained
        )
        return task_suite(name, self._model.tokenizer, self._model.recipe.model, settings)

    def _check_gates(self) -> None:
        for gate in self._gates:
            if reason := self.report.missing.get(gate.suite):
                raise RecipeError(f"--gate: {gate.text!r}: {reason}")
        known = {
            name: list(one.suite.figures(self._context))
            for name, one in self._prepared.items()
            if name in MODULES
        }
        if self._options.base is None:
            require_same_items(self._gates, self._run, self._prepared)
        # What a task of lm-eval gives shows when it has run.
        of_tasks = [*self._prepared.keys() - known.keys()]
        gates = [gate for gate in self._gates if gate.suite not in of_tasks]
        require_figures(gates, known, "--gate")

    def measure(self, advance: ItemsDone, signals: StopSignals) -> None:
        """Ask the model what was prepared, suite by suite; raises StopRequested."""
        stop = partial(asked_to_stop, signals, self._model.layout.hosts)
        respondent = StoppableRespondent(self._respondent, stop)
        for name, prepared in self._prepared.items():
            try:
                result = examine(
                    *(prepared, respondent, self._ranks, self.report.records),
                    model=self._identity,
                    advance=advance,
                )
            except ExaminationStopped:
                asked = next(filter(None, self._ranks.all_gather(signals.requested)))
                raise StopRequested(
                    f"{self.report.checkpoint}: {asked} while {name} was measured; {KEPT}:"
                    f" {self.report.records}"
                ) from None
            except LyceumError as error:
                self._missing(name, error, required=True)
                continue
            self.report.results[name] = result
            if sum(result.failed.values()) == result.items:
                unanswered = _nothing_answered(name, result)
                diverged = isinstance(unanswered, TrainingError)
                self._missing(name, unanswered, self._required or diverged)

    def _because(self, error: LyceumError) -> LyceumError:
        """The error that the corpora gave where a suite has none to read; the same on all ranks."""
        found = self._text.error
        note = self._ranks.share(None if found is None else note_of(found))
        return error if note is None else error_of(note)

    def _draw(self, folder: Path) -> None:
        """Draw what has a picture; that nothing can be drawn is one more error."""
        result = self.report.results.get("occurrence")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            drawn = result and plot_occurrence(result.figures, folder / "occurrence.png")
            line = "nothing drawn: no facts by occurrence were measured, or matplotlib is missing"
        except OSError as error:
            drawn, line = None, f"{folder}: cannot be made: {error.strerror}"
        if not drawn:
            self._errors.append(RecipeError(f"--plots: {line}"))

    def _missing(self, name: str, error: LyceumError, required: bool) -> None:
        self.report.missing[name] = str(error)
        if required:
            self._errors.append(error)

    def finish(self, json_file: Path | None) -> None:
        """Show and write what was measured; raises the first error of what was not.

        Raises GateError where all was measured, and a gate is not passed.
        """
        gates = [gate for gate in self._gates if self._gives(gate)]
        verdicts = check_gates(gates, self.report.results, self._base)
        self.report.verdicts = verdicts
        if self._model.layout.reports:
            if not is_stdout(json_file):
                self.report.show()
            write_output(json_file, self.report.as_json())
            if self._options.plots is not None:
                self._draw(self._options.plots)
        if self._errors:
            raise self._errors[0]
        if failed := [verdict.line for verdict in verdicts if not verdict.passed]:
            raise GateError(f"{len(failed)} of {len(verdicts)} gates failed: {'; '.join(failed)}")

    def _gives(self, gate: Gate) -> bool:
        """Whether what was measured has the gate's figure, which a task tells last; else an error.

        Of a suite without any figure the gate itself fails.
        """
        result = self.report.results.get(gate.suite)
        if gate.suite in MODULES or result is None or not result.figures:
            return True
        try:
            known = {gate.suite: list(result.figures)}
            require_figure(gate.suite, gate.figure, known, f"--gate: {gate.text!r}")
        except RecipeError as error:
            self._errors.append(error)
            return False
        return True


def _nothing_answered(name: str, result: SuiteResult) -> LyceumError:
    reasons = ", ".join(f"{why} ({count:,})" for why, count in result.failed.items())
    line = f"{name}: none of its {result.items:,} items has an answer: {reasons}"
    if NOT_FINITE in result.failed:
        return TrainingError(f"{line}; the model has diverged: take an earlier checkpoint")
    return DataError(line)


def _records_of(json_file: Path | None, parts: Mapping[str, Any]) -> Path:
    """Where records go that nobody has named a folder for."""
    if json_file is not None and not is_stdout(json_file):
        return json_file.with_name(f"{json_file.stem}.records")
    return cache_folder("evaluations") / _digest(json.dumps(parts).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]
