"""What a run does when something goes wrong: policies that the loop asks."""

from trainer.recovery.guard import Guard
from trainer.recovery.lock import RunLock
from trainer.recovery.signals import StopSignals, agree

__all__ = ["Guard", "RunLock", "StopSignals", "agree"]
