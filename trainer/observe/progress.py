"""Progress of training for people: a bar on a terminal, occasional lines elsewhere."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.observe.callback import Callback, RunStart

_SECONDS_BETWEEN_LINES = 10.0
_SHOWN_VALUES = 5


class ProgressBar(Callback):
    """A rich bar with loss, tokens a second and the time left; plain lines without a terminal.

    `console`: where to print (None: stdout). Lines are printed for the first and last step and, at
    most every ten seconds, for multiples of observe.log_every.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._console,
        )
        self._task = self._bar.add_task("train", figures="")
        self._first_step, self._steps, self._every = 1, 0, 1
        self._started = self._printed = 0.0
        self._measured = ""

    def on_start(self, run: RunStart) -> None:
        """Show the bar, on a terminal."""
        self._first_step, self._steps = run.first_step, run.recipe.steps
        self._every = run.recipe.observe.log_every
        self._started = time.monotonic()
        if self._console.is_terminal:
            done = run.first_step - 1
            self._bar.reset(self._task, total=self._steps, completed=done)
            self._bar.start()

    def on_step(self, record: dict[str, Any]) -> None:
        """Advance the bar, or print a line if one is due."""
        step, figures = record["step"], _figures(record)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=step, figures=figures)
            return
        now = time.monotonic()
        due = step % self._every == 0 and now - self._printed >= _SECONDS_BETWEEN_LINES
        if due or step in (self._first_step, self._steps):
            self._printed = now
            each = (now - self._started) / (step - self._first_step + 1)
            left = _duration(each * (self._steps - step))
            self._say(f"step {step}/{self._steps}  {figures}  {left} left")

    def on_evaluate(self, step: int, values: dict[str, float]) -> None:
        """Print a line with the values, of many the first ones."""
        named = [f"{name.removeprefix('eval/')} {v:.4f}" for name, v in values.items()]
        more = [f"{len(named) - _SHOWN_VALUES} more"] if len(named) > _SHOWN_VALUES else []
        self._say(f"step {step}: {', '.join([*named[:_SHOWN_VALUES], *more])}")

    def on_validate(self, step: int) -> None:
        """Show it, on a terminal."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=step, figures="measuring the validation loss")

    def on_advance(self, step: int, suite: str, done: int, items: int) -> None:
        """Show how far a suite is, on a terminal; elsewhere print a line when it begins."""
        if self._console.is_terminal:
            figures = f"measuring {suite} {done:,}/{items:,}"
            self._bar.update(self._task, completed=step, figures=figures)
        elif suite != self._measured:
            self._say(f"measuring {suite}: {items:,} items")
        self._measured = suite if done < items else ""

    def on_sample(self, step: int, prompt: str, text: str) -> None:
        """Print the sample, in quotation marks."""
        self._say(f"step {step}, sample: {prompt!r} -> {text!r}")

    def on_checkpoint(self, step: int, path: Path, seconds: float) -> None:
        """Print a line with the folder."""
        self._say(f"step {step}: saved {path} in {seconds:.1f} s")

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Remove the bar; the command itself prints why a run ended early."""
        if self._console.is_terminal:
            self._bar.stop()

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _figures(record: dict[str, Any]) -> str:
    loss = record.get("loss")
    shown = "skipped" if loss is None else f"loss {loss:.4f}"
    rate = record.get("tokens_per_second")
    return shown if rate is None else f"{shown}  {rate:,.0f} tokens/s"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
