"""Steps whose gradient was not finite: counted, and an end to a hopeless run."""

import logging
from typing import Any

from trainer.errors import TrainingError

_log = logging.getLogger(__name__)


class NonFiniteGuard:
    """Counts the steps that the optimizer skipped, and ends the run after `limit` in a row.

    `skipped`: how many in all; `in_a_row`: how many since the last finite one.
    """

    def __init__(self, limit: int) -> None:
        assert limit >= 1, "a run that stops before its first skipped step would never train"
        self._limit = limit
        self.skipped = 0
        self.in_a_row = 0

    def observe(self, finite: bool, step: int) -> None:
        """Count a step, by whether its gradient was finite: the norm says so, alike on all ranks.

        Raises TrainingError once `limit` steps in a row were not finite.
        """
        if finite:
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        _log.warning("step %d skipped: the loss or the gradient is not finite", step)
        if self.in_a_row >= self._limit:
            raise TrainingError(
                f"{self.in_a_row} steps in a row were not finite, the last one step {step}; lower "
                "optimizer.lr or look at the data, then resume from the last good checkpoint"
            )

    def state(self) -> dict[str, Any]:
        """The counts, for a checkpoint's counters."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from saved counts."""
        self.skipped = int(state["skipped"])
        self.in_a_row = int(state["in_a_row"])
