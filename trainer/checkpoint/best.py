"""RUN/checkpoints/best: a link to the run's best checkpoint, and RUN/best.json, which says why.

The link is relative, so that a run can be moved, and replaced by a rename: a reader finds the old
checkpoint or the new one. `rotate` never removes what it names.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer.checkpoint.files import complete_manifest
from trainer.checkpoint.folders import best_checkpoint
from trainer.checkpoint.format import BEST, folder_name
from trainer.errors import CheckpointError, TrainingError
from trainer.files import TEMPORARY_SUFFIX, sync_folder, whole_file
from trainer.parsing import read_json

_log = logging.getLogger(__name__)

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Promotion:
    """A checkpoint that was the best when its step was reached, and its figure's value."""

    step: int
    value: float


@dataclass(frozen=True)
class BestCheckpoint:
    """Which checkpoint of a run is the best, by which figure.

    `figure`: its name in metrics.jsonl; `better`: which way is good; `promotions`: in order of
    step, the last of which is the best; earlier ones serve a resume from before it.
    """

    figure: str
    better: Direction
    promotions: tuple[Promotion, ...] = field(default=())

    @property
    def best(self) -> Promotion | None:
        """The best so far."""
        return self.promotions[-1] if self.promotions else None

    def beaten_by(self, value: float) -> bool:
        """Whether a value is better than the best so far; one that is not finite never is."""
        if not math.isfinite(value) or self.best is None:
            return math.isfinite(value)
        return value > self.best.value if self.better == "higher" else value < self.best.value

    def promoted(self, step: int, value: float) -> "BestCheckpoint":
        """The same with `step` as the best, whose figure is `value`."""
        promotions = (*self.promotions, Promotion(step, value))
        return BestCheckpoint(self.figure, self.better, promotions)


def promote(run_dir: Path, best: BestCheckpoint) -> None:
    """Point checkpoints/best at the last promotion's checkpoint, and record why.

    Without a promotion the link goes. Raises TrainingError where it cannot be written (disk full).
    Call it on one rank.
    """
    link, record = Path(run_dir) / "checkpoints" / BEST, Path(run_dir) / f"{BEST}.json"
    content = asdict(best) | {"checkpoint": best.best and folder_name(best.best.step)}
    with _written(record, "file belongs"), whole_file(record) as file:
        if record.is_dir():
            raise IsADirectoryError
        file.write((json.dumps(content, indent=2) + "\n").encode())
        file.flush()  # a full disk shows here, before the link is another
        with _written(link, "link belongs (as in a copy that followed links)"):
            _link(link, best)


@contextmanager
def _written(path: Path, belongs: str) -> Iterator[None]:
    """Raise TrainingError, which names `path`, where this block cannot write it."""
    try:
        yield
    except IsADirectoryError:
        raise TrainingError(
            f"{path} is a folder, where a {belongs}; remove it, or move it away, and the same "
            "command goes on"
        ) from None
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}") from None


def _link(link: Path, best: BestCheckpoint) -> None:
    folder = link.parent
    if best.best is None:
        link.unlink(missing_ok=True)
    else:
        for stale in folder.glob(f"{BEST}.*{TEMPORARY_SUFFIX}"):  # of a killed process
            stale.unlink(missing_ok=True)
        temporary = folder / f"{BEST}.{os.getpid()}{TEMPORARY_SUFFIX}"
        temporary.symlink_to(folder_name(best.best.step), target_is_directory=True)
        try:
            os.replace(temporary, link)
        except OSError:
            temporary.unlink()
            raise
        sync_folder(folder)


def read_best(run_dir: Path) -> BestCheckpoint | None:
    """What `promote` recorded last; None where it recorded nothing that can be read."""
    try:
        content: dict[str, Any] = read_json((Path(run_dir) / f"{BEST}.json").read_bytes())
        promotions = tuple(Promotion(int(p["step"]), p["value"]) for p in content["promotions"])
        return BestCheckpoint(content["figure"], content["better"], promotions)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
        return None


def resumed_best(
    run_dir: Path,
    figure: str,
    better: Direction,
    step: int,
    passes: Callable[[int], bool] = lambda step: True,
    unlike: Callable[[int], str] = lambda step: "",
) -> BestCheckpoint:
    """The best so far of a run that goes on after `step`; link and record are made to agree.

    Promotions after `step` belong to a future that is given up; those whose checkpoint is gone,
    that no longer pass (`passes`), or that were chosen by another figure, do not count either.
    `unlike`: in what a step's measurement differs from those to come, in words, so that its value
    is no bar to them. Such a best is not in what is returned, and yet it stays the best, in link
    and record, until another is promoted. Raises as `promote` does. Call it on one rank.
    """
    known = read_best(run_dir)
    fresh = BestCheckpoint(figure, better)
    if known is not None and (known.figure, known.better) == (figure, better):
        standing = tuple(
            one
            for one in known.promotions
            if one.step <= step and passes(one.step) and _whole(run_dir, one.step)
        )
        fresh = BestCheckpoint(figure, better, standing)
    if known is not None and known.best not in (None, fresh.best):
        now = "none" if fresh.best is None else f"that of step {fresh.best.step}"
        last = known.promotions[-1].step
        why = ", as the run went back behind it" if last > step else " under this recipe"
        _log.warning(
            "the best checkpoint, step %d by %s, does not count from step %d on%s: the best is %s "
            "now",
            *(last, known.figure, step, why, now),
        )
    linked = best_checkpoint(run_dir)
    wanted = fresh.best and folder_name(fresh.best.step)
    if (fresh != known and (known or wanted)) or (linked and linked.name) != wanted:
        promote(run_dir, fresh)
    differing = {one.step: unlike(one.step) for one in fresh.promotions}
    if fresh.best is not None and (why := differing[fresh.best.step]):
        _log.warning(
            "the best checkpoint, step %d, was chosen by %s of %s, which is not compared with those"
            " to come: it stays the best until one of them is promoted",
            *(fresh.best.step, figure, why),
        )
    alike = tuple(one for one in fresh.promotions if not differing[one.step])
    return BestCheckpoint(figure, better, alike)


def _whole(run_dir: Path, step: int) -> bool:
    try:
        complete_manifest(Path(run_dir) / "checkpoints" / folder_name(step))
    except CheckpointError:
        return False
    return True
