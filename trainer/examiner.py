"""What a run does with its suites: measure them, judge them by gates, keep the best checkpoint."""

import hashlib
import logging
import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trainer.checkpoint import folder_name
from trainer.checkpoint.best import BestCheckpoint, Direction, promote, read_best, resumed_best
from trainer.checkpoint.format import MANIFEST
from trainer.errors import GateError, RankFailed, RecipeError, StopRequested, TrainingError
from trainer.evaluate.gates import GateVerdict, check_gates
from trainer.evaluate.intervals import Figure
from trainer.evaluate.run_suites import (
    BASE,
    EVALUATIONS,
    figures_of,
    stored_results,
    values_of,
)
from trainer.evaluate.stopping import ExaminationStopped, asked_to_stop
from trainer.evaluate.suite_result import SuiteResult
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.recipe import learning_digest
from trainer.recipe.evaluate import LOSS
from trainer.recovery import StopSignals
from trainer.run import Run
from trainer.watch import Watch

_log = logging.getLogger(__name__)


class Examiner:
    """Measures a run's suites after the steps that are due, and chooses its best checkpoint.

    Collective. `begin` comes first: it measures the base, where a gate compares with it, and what
    an interrupted run left undone after the step that it goes on from.
    """

    def __init__(self, run: Run, watch: Watch, signals: StopSignals) -> None:
        self._run, self._watch = run, watch
        self._ranks = Ranks(run.layout.hosts)
        self._section = run.recipe.evaluate
        self._gates = self._section.parsed_gates()
        self._best_by = run.recipe.checkpoint.best
        self._best: BestCheckpoint | None = None
        self._base: dict[str, Figure] = {}
        self._measured: dict[str, float] = {}
        self._ended = False
        self._judged: tuple[int, list[GateVerdict]] = (0, [])
        self._told = (partial(asked_to_stop, signals, run.layout.hosts), watch.measuring)
        self.stopped = False

    def begin(self) -> None:
        """Measure what is needed before the next step; raises StopRequested."""
        self._ended = self._run.step >= self._run.recipe.steps
        self._measure_base()
        if self._best_by is not None:
            on_first_rank(self._ranks, self._find_best)
        if self.due(self._run.step):
            self.examine()
            if self._best_by is not None and not self.stopped:
                on_first_rank(self._ranks, self._leave_what_fails_now)
            self.promote()

    def due(self, step: int) -> bool:
        """Whether the suites are measured after step `step`."""
        every, last = self._section.suites_every, step >= self._run.recipe.steps
        repeated = every > 0 and step > 0 and step % every == 0
        return bool(self._section.suites) and (last or repeated)

    def promotes(self, step: int) -> bool:
        """Whether step `step` may become the best."""
        every = self._section.every
        return self._best_by is not None and (self.due(step) or (every > 0 and step % every == 0))

    def validated(self, values: Mapping[str, float]) -> None:
        """Note the validation figures of this step, by which the best may be chosen."""
        self._measured |= values

    def examine(self) -> None:
        """Measure all suites, and judge them; `stopped` where a stop is asked for meanwhile."""
        suites, names = self._run.suites, self._section.suites
        assert suites is not None, "suites are due"
        self._run.heartbeat.beat("evaluation", self._run.step)
        folder, model = self._folder(folder_name(self._run.step)), self._model()
        results = suites.known(folder, names, model)
        if results is not None:
            self._watch.evaluated(values_of(results))
        else:
            started = time.perf_counter()
            try:
                results = suites.measure(folder, names, model, *self._told, self._found)
            except ExaminationStopped:
                self.stopped = True
                return
            except RankFailed:
                raise
            except TrainingError as error:  # its records cannot be written
                if self._run.step >= self._run.recipe.steps:
                    raise
                _log.warning("step %d is not measured: %s", self._run.step, error)
                return
            _log.info("suites measured in %.1f s", time.perf_counter() - started)
        # What is left of a suite where the model has diverged does not choose the best.
        sound = {name: result for name, result in results.items() if not result.diverged}
        self._measured |= values_of(sound)
        self._judge(results)

    def promote(self) -> None:
        """Make this step's checkpoint the best, where its figure is and every gate is passed."""
        measured, self._measured = self._measured, {}
        value = measured.get((self._best_by or "").removeprefix("eval/"))
        if value is None or self.stopped:
            return
        if self._gates and not self._passing():
            return
        run = self._run
        run.saving.finish()
        there = run.saving.saved and on_first_rank(self._ranks, self._saved)
        if not on_first_rank(self._ranks, lambda: self._beaten_by(value)):
            return
        if not there:
            run.saving.save()
            run.saving.finish()
            if not run.saving.saved:
                return  # which was said
        on_first_rank(self._ranks, lambda: self._promote(value))

    def conclude(self) -> None:
        """Say how the last step stands to the gates; raises GateError where it failed one."""
        if not self._gates:
            return
        step, verdicts = self._judged
        assert step == self._run.step, "the last step is always measured"
        failed = [verdict.line for verdict in verdicts if not verdict.passed]
        if not failed:
            lines = "; ".join(verdict.line for verdict in verdicts)
            count = len(verdicts)
            _log.info("%d of %d gates passed after step %d: %s", count, count, step, lines)
            return
        saved = "saved" if self._run.saving.saved else "not saved (checkpoint.save_final)"
        raise GateError(
            f"run {self._run.folder}: {len(failed)} of {len(verdicts)} gates failed after step "
            f"{step}, which is {saved}: {'; '.join(failed)}"
        )

    def _measure_base(self) -> None:
        """The base's figures for the gates that compare with it, measured once a run."""
        run, suites = self._run, self._run.suites
        compared = [gate for gate in self._gates if gate.within is not None]
        if not compared or suites is None:
            return
        names = list(dict.fromkeys(gate.suite for gate in compared))
        folder, model = self._folder(BASE), {"base": on_first_rank(self._ranks, self._base_seal)}
        # After its first step a run's base stays what it was, though init_from may be another
        # model by now, or gone; before it the base is what init_from holds.
        results = suites.known(folder, names, model if run.step == 0 else None)
        if results is None:
            if not model["base"]:
                raise RecipeError(
                    f"evaluate.gates: {compared[0].text!r} compares with {run.recipe.init_from}, "
                    f"which is gone, and {folder} holds no figures of it under this section's "
                    "suites, seed and limit; undo what changed there, or give a number"
                )
            _log.info("measuring the base, %s: %s", run.recipe.init_from, ", ".join(names))
            try:
                with run.base_weights():
                    results = suites.measure(folder, names, model, *self._told)
            except ExaminationStopped:
                raise StopRequested(
                    f"run {run.folder} stopped after step {run.step}, while its base was measured; "
                    "the same command goes on from there"
                ) from None
        self._base = figures_of(results)
        for gate in compared:
            figure = self._base.get(gate.name)
            if figure is None or not math.isfinite(figure.value):
                failures = results[gate.suite].failures
                why = f" ({failures})" if failures and figure is None else ""
                raise RecipeError(
                    f"evaluate.gates: {gate.text!r}: {gate.name} is not defined for "
                    f"{run.recipe.init_from}, which the run starts from{why}; give a number"
                )

    def _base_seal(self) -> str:
        """What changes with any bit of the base; empty where it is gone."""
        try:
            manifest = (Path(self._run.recipe.init_from or "") / MANIFEST).read_bytes()
        except OSError:
            return ""
        return hashlib.sha256(manifest).hexdigest()

    def _model(self) -> dict[str, Any]:
        """What tells the live weights from others after the same step, as JSON."""
        outcome = on_first_rank(self._ranks, self._watch.outcome)
        return {"step": self._run.step, **outcome, "learns": learning_digest(self._run.recipe)}

    def _found(self, suite: str, result: SuiteResult) -> None:
        if result.figures:
            self._watch.evaluated(values_of({suite: result}))
        if result.failed:
            _log.warning("step %d: %s: %s", self._run.step, suite, result.failures)

    def _judge(self, results: Mapping[str, SuiteResult]) -> None:
        step = self._run.step
        verdicts = check_gates(self._gates, results, self._base)
        self._judged = (step, verdicts)
        for verdict in verdicts:
            say, word = (_log.info, "passed") if verdict.passed else (_log.warning, "failed")
            say("step %d: gate %r %s: %s", step, verdict.gate.text, word, verdict.line)

    def _passing(self) -> bool:
        """Whether this step was judged, and passed every gate."""
        step, verdicts = self._judged
        return step == self._run.step and all(verdict.passed for verdict in verdicts)

    def _find_best(self) -> None:
        assert self._best_by is not None, "the caller has looked"
        self._best = self._best_so_far(self._best_by)

    def _leave_what_fails_now(self) -> None:
        """Look for the best again where this step, which may be it, fails as measured anew."""
        if not self._stands(self._run.step):
            self._find_best()

    def _best_so_far(self, figure: str) -> BestCheckpoint:
        """The best that a resumed run has, under its gates as they are now; on the first rank."""
        suites, run = self._run.suites, self._run
        better: Direction = "lower"
        if figure == LOSS:
            return resumed_best(run.folder, figure, better, run.step, self._stands)
        assert suites is not None, "the recipe was checked"
        better, suite = suites.better[figure.removeprefix("eval/")] or "lower", _suite_of(figure)

        def unlike(step: int) -> str:
            return suites.unlike(self._folder(folder_name(step)), suite)

        return resumed_best(run.folder, figure, better, run.step, self._stands, unlike)

    def _stands(self, step: int) -> bool:
        """Whether what was measured after a step still lets it be the best; on the first rank."""
        suites, by = self._run.suites, self._best_by
        names = {gate.suite for gate in self._gates}
        if by is not None and by != LOSS:
            names.add(_suite_of(by))
        if suites is None or not names:
            return True
        folder = self._folder(folder_name(step))
        found = stored_results(folder)
        if not found and by != LOSS:
            return True  # it was measured, or it had not been promoted: only its records are gone
        if any(name not in found or found[name].diverged for name in names):
            return False
        # The base's figure is over the items of now: those over others are not held to it.
        judged = [g for g in self._gates if g.within is None or not suites.unlike(folder, g.suite)]
        return all(one.passed for one in check_gates(judged, found, self._base))

    def _beaten_by(self, value: float) -> bool:
        assert self._best is not None, "on the first rank, and by a figure"
        recorded = read_best(self._run.folder)
        stays = None if recorded is None else recorded.best
        # A run that had ended measures its last step alone: where that cannot be compared with the
        # best, it would become it however bad it is.
        unknown = stays is not None and stays != self._best.best and stays.step != self._run.step
        return not (self._ended and unknown) and self._best.beaten_by(value)

    def _promote(self, value: float) -> None:
        run, before = self._run, self._best
        assert before is not None, "on the first rank, and by a figure"
        self._best = before.promoted(run.step, value)
        promote(run.folder, self._best)
        run.saving.rotate()
        than = f", {before.best.value:.6g} after step {before.best.step}" if before.best else ""
        _log.info("step %d is the best: %s is %.6g%s", run.step, before.figure, value, than)

    def _saved(self) -> bool:
        return (self._run.folder / "checkpoints" / folder_name(self._run.step)).is_dir()

    def _folder(self, name: str) -> Path:
        return self._run.folder / EVALUATIONS / name


def _suite_of(figure: str) -> str:
    """SUITE of eval/SUITE/FIGURE."""
    return figure.split("/", 2)[1]
