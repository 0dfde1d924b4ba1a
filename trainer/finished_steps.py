"""What a run makes of its finished steps: skipped ones, spikes, and which checkpoints are good."""

import logging
from typing import Any

from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.recovery import NonFiniteGuard
from trainer.recovery.spikes import Spike, SpikeDetector, SpikeSeen
from trainer.rollback import good_checkpoint_before
from trainer.run import Run
from trainer.watch import Watch

_log = logging.getLogger(__name__)


class FinishedSteps:
    """Reads the steps that the device has finished, logs them, and judges each; on every rank.

    All ranks see the same figures, and so they decide alike.
    """

    def __init__(self, run: Run, watch: Watch) -> None:
        recovery = run.recipe.recovery
        self._run, self._watch = run, watch
        self._guard = NonFiniteGuard(recovery.skipped_in_a_row)
        self._guard.load_state(run.counters.guard)
        self._spikes = SpikeDetector(recovery.spike, recovery.spike_window)
        self._spikes.load_state(run.counters.spikes)

    @property
    def step(self) -> int:
        """Optimizer steps attempted so far."""
        return self._run.step

    def read(self, everything: bool) -> None:
        """Log and judge the steps that are due.

        The newest step is left out unless `everything`: waiting for it would leave the device idle.
        Raises TrainingError after too many non-finite steps in a row, SpikeSeen at a spike that a
        good checkpoint lies before.
        """
        for record in self._watch.read(everything):
            self._judge(record)
        self._run.counters.guard = self._guard.state()
        self._run.counters.spikes = self._spikes.state()
        self.tell_saves()

    def tell_saves(self) -> None:
        """Report the saves that have ended, and the checkpoints that have come to count as good."""
        for save in self._run.saving.ended():
            if save.error is None:
                self._watch.checkpointed(save.step, save.path, save.seconds)
        for path in self._run.saving.newly_good():
            self._watch.settled(path)

    def _judge(self, record: dict[str, Any]) -> None:
        step, applied = record["step"], not record["skipped"]
        spike = self._spikes.observe(record)
        self._watch.record(record if spike is None else record | {"spike_sigmas": spike.sigmas})
        self._guard.observe(applied, step)
        self._run.saving.settle(step, applied and spike is None)
        if spike is not None:
            self._go_back_from(spike)

    def _go_back_from(self, spike: Spike) -> None:
        run = self._run

        def look() -> bool:
            return good_checkpoint_before(run.folder, spike.step) is not None

        if on_first_rank(Ranks(run.layout.hosts), look):
            raise SpikeSeen(spike)
        _log.warning("%s; there is no good checkpoint to go back to, and it goes on", spike)
