"""RUN/logs/rank-N.log: the log messages of each rank, one line an event."""

import logging

from trainer.addresses import PlainFormatter
from trainer.observe.callback import Callback, RunStart
from trainer.recovery.logs import QuietFile, take_early_records


class RankLog(Callback):
    """Appends this rank's log messages, INFO and above, to RUN/logs/rank-N.log."""

    def __init__(self) -> None:
        self._handler: logging.Handler | None = None
        self._level = logging.NOTSET

    def on_start(self, run: RunStart) -> None:
        """Open the file and attach it to the `trainer` logger."""
        folder = run.folder / "logs"
        folder.mkdir(exist_ok=True)
        self._handler = QuietFile(folder / f"rank-{run.rank}.log")
        self._handler.setLevel(logging.INFO)
        line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        self._handler.setFormatter(PlainFormatter(line))
        logger = logging.getLogger("trainer")
        self._level = logger.level
        logger.addHandler(self._handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
        for record in take_early_records(logger):
            self._handler.handle(record)
        ranks = f"{run.world_size} rank{'s' if run.world_size > 1 else ''}"
        # Not to the screen: a terminal shows the steps themselves.
        self._note(f"begins at step {run.first_step} of {run.recipe.steps}, on {ranks}")

    def _note(self, text: str) -> None:
        """Write a line into the file alone."""
        assert self._handler is not None, "on_start comes first"
        self._handler.handle(
            logging.LogRecord("trainer", logging.INFO, __file__, 0, text, None, None)
        )

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Write the run's end as the last line, and close the file."""
        if self._handler is None:
            return
        logger = logging.getLogger("trainer")
        if state == "done":
            logger.info("%s: %s", state, reason)
        else:
            self._note(f"{state}: {reason}")  # the command prints why, once for all ranks
        logger.removeHandler(self._handler)
        logger.setLevel(self._level)
        self._handler.close()
        self._handler = None
