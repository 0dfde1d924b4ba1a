"""A run's observability: each step's record, and the callbacks that receive it."""

import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import ceil, isfinite, isnan
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from trainer.checkpoint import latest_checkpoint
from trainer.errors import LyceumError, StopRequested
from trainer.observe import (
    Callback,
    MetricsWriter,
    Profiler,
    ProgressBar,
    RankLog,
    RunStart,
    SampleWriter,
    StatusWriter,
    TensorBoard,
    Throughput,
    Waits,
    WeightsAndBiases,
    matrix_rate,
    memory_gib,
    read_metrics,
    truncate_metrics,
    write_environment,
)
from trainer.parallel.device import DeviceTime, Readback
from trainer.parallel.join import barrier
from trainer.parallel.schedule import Losses
from trainer.parallel.zero import StepOutcome
from trainer.plan.estimate import disk_warning, estimate
from trainer.recovery.goodput import BEGAN, LOSSES, Goodput, Ledger
from trainer.recovery.last_word import tell_own_failure, told_by_another
from trainer.recovery.slow import BusyShare, slowest
from trainer.recovery.spikes import Spike
from trainer.recovery.status_file import read_status, recorded_step, tell_missing_records
from trainer.run import Run, StepCounts

_log = logging.getLogger(__name__)


@dataclass
class _Pending:
    """A step that the device may not have finished: its start, and what the host knows of it."""

    began: DeviceTime
    counts: StepCounts
    record: dict[str, Any]


class Watch:
    """A context around the loop that measures steps and calls the callbacks.

    Rank 0 writes metrics, status, progress and the like; every rank its own log and profile.
    `before`: the watch of the course that this one takes over from, where a run went back.
    """

    def __init__(self, run: Run, before: "Watch | None" = None) -> None:
        self._run = run
        device = run.layout.device
        self._began = DeviceTime(device)
        self._readback: Readback[_Pending] = Readback(device, run.recipe.observe.read_every)
        vocab = run.recipe.model.vocab
        assert vocab is not None
        self._throughput = Throughput(
            run.recipe.model,
            run.recipe.sequence_length,
            vocab,
            run.layout.world_size,
            run.layout.device,
            run.recipe.lora,
        )
        self._callbacks = _callbacks(run)
        watched = run.layout.world_size > 1 and device.type == "cpu"
        self._busy = BusyShare() if watched else None
        self._slow: int | None = None
        self._goodput: Goodput | None = before._goodput if before else None
        self._first_course = before is None
        self._back: Spike | None = None

    def __enter__(self) -> "Watch":
        run = self._run
        rate = _common_rate(run) if self._first_course else 0.0
        if run.layout.reports:
            if self._goodput is None:
                self._goodput = _goodput_of(run, recorded_step(run.folder))
            else:
                self._goodput.rolled_back(run.step)
            truncate_metrics(run.folder, run.step)
            tell_missing_records(run.folder, run.step)
            if self._first_course:
                write_environment(run.folder, run.layout.world_size)
                _print_estimate(run, rate)
        start = RunStart(
            run.folder,
            run.recipe,
            run.step + 1,
            run.layout.rank,
            run.layout.world_size,
            run.layout.device,
            newest.name if (newest := latest_checkpoint(run.folder)) else None,
            self._spent if self._goodput else None,
        )
        barrier(run.layout.device)
        for callback in self._callbacks:
            callback.on_start(start)
        if self._busy is not None:
            self._busy.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._busy is not None:
            self._busy.__exit__()
        state, reason, code = "done", f"step {self._run.step} of {self._run.recipe.steps}", 0
        if isinstance(error, StopRequested):
            state, reason, code = "stopped", str(error), error.exit_code
        elif isinstance(error, LyceumError):
            state, reason, code = "failed", str(error), error.exit_code
        elif error is not None:
            state, reason, code = "failed", f"{type(error).__name__}: {error}", 1
        elif self._back is not None:
            state, reason = "running", f"{self._back}; it goes back"
        anothers = self._run.lost or told_by_another(self._run.folder, error)
        for callback in self._callbacks:
            if not (isinstance(callback, StatusWriter) and anothers):
                callback.on_stop(state, reason, code)
        tell_own_failure(self._run.folder, self._run.layout.rank, error)

    def begin_step(self) -> None:
        """Start the step's clock; to be called before its data is requested."""
        self._began = DeviceTime(self._run.layout.device)

    def end_step(
        self, losses: Losses, counts: StepCounts, outcome: StepOutcome, rate: float
    ) -> None:
        """Record what the host knows of a queued step, and queue the readback of the rest.

        `losses` and `outcome`: device tensors, fp32 []; `rate`: the learning rate. Collective.
        """
        run = self._run
        memory, shares = self._of_all_ranks()
        known = {
            "step": run.step,
            "lr": rate,
            "tokens": run.counters.tokens,
            "supervised_tokens": run.counters.supervised_tokens,
            "memory_gib": memory,
            **run.mixture_shares(),
            **self._slow_rank(shares),
            **self._replicas(),
        }
        known |= run.notes
        run.notes.clear()
        if self._goodput is not None:
            self._goodput.made(run.step, run.heartbeat.seconds())
        figures = {f"{run.recipe.stage}/{name}": n for name, n in losses.figures.items()}
        numbers = {"loss": losses.mean, "grad_norm": outcome.grad_norm, **figures}
        self._readback.push(_Pending(self._began, counts, known), numbers)

    def _of_all_ranks(self) -> tuple[float, list[float]]:
        """GiB of the fullest rank, and how much of its time each rank works; collective."""
        own = [memory_gib(self._run.layout.device), self._busy.share() if self._busy else math.nan]
        if self._run.layout.world_size == 1:
            return own[0], own[1:]
        mine = torch.tensor(own, dtype=torch.float64)
        ranks = [torch.empty_like(mine) for _ in range(self._run.layout.world_size)]
        dist.all_gather(ranks, mine, group=self._run.layout.hosts)
        memory, shares = zip(*(rank.tolist() for rank in ranks), strict=True)
        return max(memory), list(shares)

    def _slow_rank(self, shares: list[float]) -> dict[str, Any]:
        """`slow_rank` and `slow_factor`, where the others wait for one; says when it begins."""
        found = slowest(shares, self._run.recipe.recovery.slow_factor)
        rank = None if found is None else found[0]
        if found is not None and rank != self._slow:
            _log.warning(
                "step %d: the other ranks wait for rank %d, which works %.1f times as much of its "
                "time as they do",
                *(self._run.step, *found),
            )
        self._slow = rank
        return {} if found is None else {"slow_rank": found[0], "slow_factor": found[1]}

    def _replicas(self) -> dict[str, int]:
        """`replicas`, where their number may change."""
        elastic = self._run.recipe.recovery.minimum_replicas is not None
        return {"replicas": self._run.layout.data.size} if elastic else {}

    def evaluated(self, values: dict[str, float]) -> None:
        """Record an evaluation after this step: values by name, without the `eval/` prefix.

        Where the step's record has been written, as before a resume, it is amended by what it
        does not have.
        """
        named = {f"eval/{name}": value for name, value in values.items()}
        newest = self._readback.newest
        if newest is not None:
            newest.record |= named
        late = self._unrecorded(named) if newest is None else {}
        for callback in self._callbacks:
            if late:
                callback.on_amend(self._run.step, late)
            callback.on_evaluate(self._run.step, named)

    def _unrecorded(self, named: dict[str, float]) -> dict[str, float]:
        """Those values that the record of the step before does not have."""
        known = self._last_record()
        written = {name: value if isfinite(value) else None for name, value in named.items()}
        return {
            name: named[name]
            for name, value in written.items()
            if name not in known or known[name] != value
        }

    def _last_record(self) -> dict[str, Any]:
        """The record of the step before, where it was written; on the rank that reports."""
        records = read_metrics(self._run.folder)[-1:] if self._run.layout.reports else []
        return records[0] if records and records[0]["step"] == self._run.step else {}

    def validating(self) -> None:
        """Report that the validation loss after this step is taken now."""
        for callback in self._callbacks:
            callback.on_validate(self._run.step)

    def measuring(self, suite: str, done: int, items: int) -> None:
        """Report that so many items of a suite are done after this step."""
        for callback in self._callbacks:
            callback.on_advance(self._run.step, suite, done, items)

    def outcome(self) -> dict[str, float | None]:
        """`loss`, `grad_norm` and `lr` of the step before, as its record has them.

        They tell its weights from those that another course of the run has after the same step.
        Waits for the device; {} where no record is left.
        """
        newest = self._readback.newest
        if newest is not None:
            numbers = self._readback.newest_numbers()
            applied = isfinite(numbers["grad_norm"])
            loss, norm = (numbers[key] if applied else None for key in ("loss", "grad_norm"))
            return {"loss": loss, "grad_norm": norm, "lr": newest.record["lr"]}
        known = self._last_record()
        return {key: known.get(key) for key in ("loss", "grad_norm", "lr")} if known else {}

    def read(self, everything: bool) -> Iterator[dict[str, Any]]:
        """The records of the steps that are due, to be judged and passed to `record`.

        `everything`: also the newest step, for which the host waits.
        """
        for pending, numbers, done in self._readback.pop(everything):
            record = self._record(pending, numbers, done.seconds_since(pending.began))
            yield record | self._useful_time(record)

    def record(self, record: dict[str, Any]) -> None:
        """Pass a step's record to the callbacks."""
        for callback in self._callbacks:
            callback.on_step(record)

    def rolled_back(self, spike: Spike) -> None:
        """Note that this course ends here, as the run goes back from a spike."""
        self._back = spike

    def _record(
        self, pending: _Pending, numbers: dict[str, float], seconds: float
    ) -> dict[str, Any]:
        """A step's record in metrics.jsonl; `seconds`: its time on the device."""
        known = dict(pending.record)
        loss, norm = numbers.pop("loss"), numbers.pop("grad_norm")
        skipped = not isfinite(norm)
        return {
            "step": known.pop("step"),
            "loss": None if skipped else loss,
            "grad_norm": None if skipped else norm,
            **{name: known.pop(name) for name in ("lr", "tokens", "supervised_tokens")},
            "step_seconds": seconds,
            **self._throughput.rates(pending.counts.tokens, seconds),
            "memory_gib": known.pop("memory_gib"),
            "skipped": skipped,
            **known,
            # A figure is NaN where a step had nothing to take a mean of, or was not finite itself.
            **{name: n for name, n in numbers.items() if skipped or not isnan(n)},
        }

    def _useful_time(self, record: dict[str, Any]) -> dict[str, float]:
        """`goodput` after a step, and `lost_NAME_seconds`, over all starts of the run."""
        if self._goodput is None:
            return {}
        self._goodput.read(record["step"], record["skipped"])
        ledger = self._ledger()
        lost = {f"lost_{name}_seconds": ledger.lost.get(name, 0.0) for name in LOSSES}
        return {"goodput": ledger.fraction, **lost}

    def _ledger(self) -> Ledger:
        assert self._goodput is not None, "on the rank that reports"
        return self._goodput.ledger(self._run.heartbeat.seconds(), time.monotonic())

    def _spent(self) -> dict[str, Any]:
        return self._ledger().as_json(time.time())

    def sampled(self, samples: list[tuple[str, str]]) -> None:
        """Report texts generated after this step: (prompt, continuation) pairs."""
        for prompt, text in samples:
            for callback in self._callbacks:
                callback.on_sample(self._run.step, prompt, text)

    def settled(self, path: Path) -> None:
        """Report that a checkpoint counts as good now."""
        for callback in self._callbacks:
            callback.on_good(path)

    def checkpointed(self, step: int, path: Path, seconds: float) -> None:
        """Report a complete checkpoint: its step and folder, and the seconds that saving took."""
        for callback in self._callbacks:
            callback.on_checkpoint(step, path, seconds)

    def conclude(self) -> None:
        """Add to the last step's record what no later one will say, how its save went, and let all
        that waited for room be written. Raises TrainingError where there still is none.
        """
        notes, self._run.notes = self._run.notes, {}
        amended = notes if self._last_record() else {}
        for callback in self._callbacks:
            if amended:
                callback.on_amend(self._run.step, amended)
            callback.on_conclude()


def _callbacks(run: Run) -> list[Callback]:
    recipe = run.recipe
    callbacks: list[Callback] = [RankLog()]
    if recipe.profile.steps is not None:
        callbacks.append(Profiler(*recipe.profile.steps))
    if recipe.profile.waits and run.layout.reports:
        callbacks.append(Waits())
    if run.layout.reports:
        callbacks += [MetricsWriter(), SampleWriter(), StatusWriter(), ProgressBar()]
        if recipe.observe.tensorboard:
            callbacks.append(TensorBoard())
        if recipe.observe.wandb is not None:
            callbacks.append(WeightsAndBiases(recipe.observe.wandb))
    return callbacks


def _goodput_of(run: Run, recorded: int) -> Goodput:
    """The time of this start on top of those before; `recorded`: the last step that one made."""
    entered = run.heartbeat.entered
    return Goodput(
        Ledger.of_status(read_status(run.folder), time.time()),
        began=float(os.environ.get(BEGAN, entered)),
        entered=entered,
        replayed=recorded,
        compiles=run.recipe.kernels.compile != "none",
    )


def _common_rate(run: Run) -> float:
    """FLOP/s of all ranks together in a matrix product, measured on all of them at once."""
    dtype = torch.bfloat16 if run.recipe.precision == "bf16" else torch.float32
    barrier(run.layout.device)
    rate = torch.tensor(matrix_rate(run.layout.device, dtype), device=run.layout.device)
    dist.all_reduce(rate)
    return rate.item()


def _print_estimate(run: Run, rate: float) -> None:
    vocab = run.recipe.model.vocab
    assert vocab is not None
    needed = estimate(run.recipe, run.layout.world_size, vocab)
    warning = disk_warning(needed, run.folder)
    left = needed.seconds(rate, 1.0 - run.step / run.recipe.steps)
    time_line = (
        f"time: at least {timedelta(seconds=ceil(left))}, if all of it ran like a matrix product "
        f"does here ({rate / 1e9:,.0f} GFLOP/s over all ranks)"
    )
    for line in [*needed.lines(), time_line, *([f"warning: {warning}"] if warning else [])]:
        print(line, flush=True)
