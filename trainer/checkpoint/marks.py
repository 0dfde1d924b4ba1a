"""What is known of a checkpoint beyond its own files: not settled yet, or found damaged.

A checkpoint is whole the moment that it has its name, and still it may hold weights that the next
step shows to be spoilt. Until then a mark stands beside it, `step-00000100.unsettled`, made before
it gets its name and removed when it has settled. One that a resume found damaged gets
`step-00000100.damaged`, with the reason in it, and one of a course that was given up, as a resume
went back behind it, `step-00000100.given-up`; both stay where they are. Who finds no mark, as
beside one that was copied or imported, finds a good one.
"""

import contextlib
from pathlib import Path

from trainer.checkpoint.format import folder_name
from trainer.files import sync_folder, write_whole

_UNSETTLED = ".unsettled"
_DAMAGED = ".damaged"
_GIVEN_UP = ".given-up"


def _mark(checkpoint: Path, suffix: str) -> Path:
    return checkpoint.with_name(checkpoint.name + suffix)


def is_settled(checkpoint: Path) -> bool:
    """Whether nothing says that a checkpoint still has to show itself good."""
    return not _mark(checkpoint, _UNSETTLED).exists()


def mark_unsettled(folder: Path, step: int) -> None:
    """Mark the checkpoint of a step that is about to be saved in FOLDER; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(_mark(folder / folder_name(step), _UNSETTLED), "")


def settle(checkpoint: Path) -> None:
    """Let a checkpoint count as good; raises OSError."""
    _remove(checkpoint, _UNSETTLED)


def found_damage(checkpoint: Path) -> str | None:
    """Why a resume did not go on from a checkpoint; None where none had a reason."""
    with contextlib.suppress(FileNotFoundError):
        return _mark(checkpoint, _DAMAGED).read_text(encoding="utf-8", errors="replace")
    return None


def course_given_up(checkpoint: Path) -> str | None:
    """Why a checkpoint is of a course that was given up; None where it is not."""
    with contextlib.suppress(FileNotFoundError):
        return _mark(checkpoint, _GIVEN_UP).read_text(encoding="utf-8", errors="replace")
    return None


def mark_given_up(checkpoint: Path, step: int) -> None:
    """Note that the run goes on from step `step`, which lies before it; raises OSError."""
    reason = f"{checkpoint.name} is of a course that was given up after step {step}"
    write_whole(_mark(checkpoint, _GIVEN_UP), reason)


def mark_chosen(checkpoint: Path) -> None:
    """Take back what was noted against a checkpoint: all of it is as it was saved, and a run goes
    on from it; raises OSError.
    """
    for suffix in (_DAMAGED, _GIVEN_UP):
        _remove(checkpoint, suffix)


def mark_damaged(checkpoint: Path, reason: str) -> None:
    """Note the damage that was found in a checkpoint; raises OSError."""
    write_whole(_mark(checkpoint, _DAMAGED), reason)


def remove_marks(checkpoint: Path) -> None:
    """Remove all marks of a checkpoint that is gone; raises OSError."""
    for suffix in (_UNSETTLED, _DAMAGED, _GIVEN_UP):
        _mark(checkpoint, suffix).unlink(missing_ok=True)


def _remove(checkpoint: Path, suffix: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _mark(checkpoint, suffix).unlink()
        sync_folder(checkpoint.parent)


class Settling:
    """The checkpoints of a run that wait for the steps behind them; on the rank that reports.

    One counts as good when so many steps, one after another, were applied behind it, and when it
    is whole, which it may become later than that.
    """

    def __init__(self) -> None:
        self._missing: dict[Path, int] = {}
        self._wanted: dict[Path, int] = {}
        self._whole: set[Path] = set()

    def add(self, checkpoint: Path, steps: int) -> None:
        """Count `steps` behind a checkpoint of the state as it is now."""
        self._missing[checkpoint] = self._wanted[checkpoint] = steps
        self._whole.discard(checkpoint)

    def complete(self, checkpoint: Path) -> list[Path]:
        """Take that a checkpoint is whole; those that are good now, oldest first."""
        self._whole.add(checkpoint)
        return self._ready()

    def drop(self, checkpoint: Path) -> None:
        """Forget a checkpoint that could not be written."""
        self._missing.pop(checkpoint, None)
        self._whole.discard(checkpoint)

    def drop_before(self, checkpoint: Path) -> list[Path]:
        """Forget those before a checkpoint that is whole which have not become so; which they are.

        What lay of them on the machines' own disks went as this one came there.
        """
        lost = [
            one for one in self._missing if one.name < checkpoint.name and one not in self._whole
        ]
        for one in lost:
            self.drop(one)
        return lost

    def observe(self, step: int, applied: bool) -> list[Path]:
        """Take a step that the device has finished; the checkpoints that are good now.

        A step that was skipped lets the count begin anew, unless it had been reached.
        """
        for checkpoint, missing in self._missing.items():
            if missing and step > int(checkpoint.name.removeprefix("step-")):
                self._missing[checkpoint] = missing - 1 if applied else self._wanted[checkpoint]
        return self._ready()

    def settled_before_whole(self) -> list[Path]:
        """Those that only have to become whole: what finishes them later may take them for good."""
        return [
            one for one, missing in self._missing.items() if not missing and one not in self._whole
        ]

    def _ready(self) -> list[Path]:
        ready = [
            one for one, missing in self._missing.items() if one in self._whole and not missing
        ]
        for checkpoint in ready:
            self.drop(checkpoint)
        return ready
