"""RUN/rollbacks.json: which steps a run took back, and which data it leaves out for it.

The file is the decision: it is written before the weights are touched, so that a run which is
killed on the way goes on by it. What is left out is told by step: before step N, so many batches
of the data's order are not read.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.errors import TrainingError
from trainer.files import write_whole
from trainer.parsing import read_json
from trainer.recipe.checkpoint import LeftOutSection

ROLLBACKS = "rollbacks.json"
DOCUMENTS = "rollbacks"
"""The folder of the windows' documents, in a run directory."""


@dataclass(frozen=True)
class Rollback:
    """One decision: after `step`, where `figure` was `value`, so many `sigmas` above `mean`.

    The run went back to `checkpoint`, the one before step `before_step`, and leaves out `batches`
    more there than it had; `documents`: the file, in the run directory, that names what was in
    them.
    """

    step: int
    figure: str
    value: float
    mean: float
    sigmas: float
    checkpoint: str
    before_step: int
    batches: int
    documents: str


def read_rollbacks(run: Path) -> list[Rollback]:
    """A run's decisions, oldest first; [] without. Raises TrainingError for a damaged file."""
    path = Path(run) / ROLLBACKS
    try:
        content = read_json(path.read_bytes())
        if not isinstance(content, list):
            raise ValueError("it is no list")
        decided = [Rollback(**one) for one in content]
        for one in decided:
            if not (type(one.batches) is type(one.before_step) is int and one.batches > 0):
                raise ValueError("batches and before_step are counts")
        return decided
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({error}), and tells which data the run leaves out; put it "
            "back, or remove it to leave out none"
        ) from None


def add_rollback(run: Path, rollback: Rollback) -> None:
    """Write a decision behind the others; raises OSError."""
    decided = [*read_rollbacks(run), rollback]
    content = json.dumps([asdict(one) for one in decided], indent=2) + "\n"
    write_whole(Path(run) / ROLLBACKS, content)


def batches_left_out(told: Iterable[LeftOutSection], decided: Iterable[Rollback]) -> Counter[int]:
    """Batches that are left out before each step: as a recipe tells, and as was decided."""
    left_out: Counter[int] = Counter()
    for one in told:
        left_out[one.before] += one.batches
    for rollback in decided:
        left_out[rollback.before_step] += rollback.batches
    return left_out


def left_out_between(left_out: Mapping[int, int], after: int, step: int) -> int:
    """Batches that are left out behind step `after`, up to and with those before `step`."""
    return sum(batches for before, batches in left_out.items() if after < before <= step)
