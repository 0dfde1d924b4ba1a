"""What a run does when something goes wrong: policies that the loop asks."""

from trainer.recovery.guard import NonFiniteGuard
from trainer.recovery.lock import FolderLock, RunLock
from trainer.recovery.signals import StopSignals

__all__ = ["FolderLock", "NonFiniteGuard", "RunLock", "StopSignals"]
