"""RUN/trace/rank-N.json: a Chrome trace of some steps, for chrome://tracing or Perfetto."""

from typing import Any

import torch
from torch.profiler import ProfilerActivity

from trainer.observe.callback import Callback, RunStart


class Profiler(Callback):
    """Records the steps `first` to `last` (from 1, inclusive), a trace a rank.

    A run that resumes within the range records the rest of it; one that ends within it writes the
    steps recorded so far.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._run: RunStart | None = None
        self._profile: Any = None

    def on_start(self, run: RunStart) -> None:
        """Start recording if the next step is within the range."""
        self._run = run
        self._begin_before(run.first_step)

    def on_step(self, record: dict[str, Any]) -> None:
        """Start recording before the next step, or write the trace after the last one."""
        if record["step"] >= self._last:
            self._end()
        else:
            self._begin_before(record["step"] + 1)

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Write the trace if one is being recorded."""
        self._end()

    def _begin_before(self, step: int) -> None:
        if self._profile is None and self._first <= step <= self._last:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = torch.profiler.profile(activities=activities)
            self._profile.start()

    def _end(self) -> None:
        if self._profile is None:
            return
        assert self._run is not None
        self._profile.stop()
        folder = self._run.folder / "trace"
        folder.mkdir(exist_ok=True)
        self._profile.export_chrome_trace(str(folder / f"rank-{self._run.rank}.json"))
        self._profile = None
