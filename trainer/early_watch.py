"""What a run says of itself before its first step: status and progress of asking its model."""

import logging
import time
from pathlib import Path
from types import TracebackType

from trainer.errors import LyceumError, StopRequested
from trainer.observe import RunStart, StatusWriter
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


class EarlyWatch:
    """A context around what a run does before it has its data; says nothing where that is nothing.

    `step`: steps that the run has made. The first rank writes RUN/status.json, and a line of
    progress at most every ten seconds. Where all goes well, `Watch` takes over.
    """

    def __init__(self, recipe: Recipe, layout: Layout, step: int) -> None:
        self._status, self._layout = StatusWriter(), layout
        self._start = RunStart(
            *(Path(recipe.run), recipe, step + 1, layout.rank, layout.world_size, layout.device)
        )
        self._step, self._began, self._said = step, False, time.monotonic()

    def __enter__(self) -> "EarlyWatch":
        return self

    def advance(self, name: str, done: int, items: int) -> None:
        """Say how many questions of the set `name` are answered."""
        if not self._layout.reports:
            return
        if not self._began:
            self._began = True
            self._status.on_start(self._start)
        self._status.on_advance(self._step, name, done, items)
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            _log.info("%s: %d of %d questions are answered", name, done, items)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or not self._began:
            return
        state = "stopped" if isinstance(error, StopRequested) else "failed"
        code = error.exit_code if isinstance(error, LyceumError) else 1
        self._status.on_stop(state, str(error), code)
