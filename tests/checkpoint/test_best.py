"""checkpoints/best: a link that every reader of checkpoints follows, and no rotation breaks."""

import io
import math
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from tests.checkpoint.saving import WEIGHT, save, whole
from trainer.checkpoint import latest_checkpoint, list_checkpoints, resolve_checkpoint, rotate
from trainer.checkpoint.best import (
    BestCheckpoint,
    Promotion,
    promote,
    read_best,
    resumed_best,
)
from trainer.checkpoint.report import diff_command, list_command, prune_command, verify_command
from trainer.errors import CheckpointError, TrainingError

LOWEST = BestCheckpoint("eval/loss", "lower")


def saved_run(run: Path, *steps: int) -> Path:
    for step in steps:
        save(run, step, [whole("model/weight", WEIGHT + step)])
    return run


def best_of(run: Path) -> Path:
    return run / "checkpoints" / "best"


def test_which_value_is_better() -> None:
    """Catches a direction turned round, an equal value that replaces, and NaN as the best."""
    assert LOWEST.beaten_by(9.0)
    assert not LOWEST.beaten_by(math.nan)
    assert not LOWEST.beaten_by(-math.inf)
    lower = LOWEST.promoted(1, 2.0)
    assert [lower.beaten_by(v) for v in (1.9, 2.0, 2.1, math.nan)] == [True, False, False, False]
    higher = BestCheckpoint("eval/a/b", "higher", (Promotion(1, 2.0),))
    assert [higher.beaten_by(v) for v in (1.9, 2.0, 2.1, math.nan)] == [False, False, True, False]


def test_the_link_is_a_checkpoint_wherever_the_run_lies(tmp_path: Path) -> None:
    """Catches an absolute link: the run is moved. What it resolves to is the step's own folder."""
    run = saved_run(tmp_path / "run", 1, 2)
    promote(run, LOWEST.promoted(1, 2.0))
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(run, moved)
    assert resolve_checkpoint(best_of(moved)) == moved / "checkpoints" / "step-00000001"
    assert resolve_checkpoint(moved) == moved / "checkpoints" / "step-00000002"
    assert latest_checkpoint(moved) == moved / "checkpoints" / "step-00000002"
    assert read_best(moved) == LOWEST.promoted(1, 2.0)


def test_a_folder_in_the_place_of_the_link_is_one_line(tmp_path: Path) -> None:
    """Catches a trace of calls where a run was copied with its links followed."""
    run = saved_run(tmp_path / "run", 1)
    promote(run, LOWEST.promoted(1, 2.0))
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    with pytest.raises(TrainingError, match=r"checkpoints/best is a folder, .* move it away"):
        resumed_best(copied, "eval/loss", "lower", 1)
    names = sorted(path.name for path in (copied / "checkpoints").iterdir())
    assert names == ["best", "step-00000001"], "no temporary link is left"
    shutil.rmtree(best_of(copied))
    assert resumed_best(copied, "eval/loss", "lower", 1) == LOWEST.promoted(1, 2.0)
    assert resolve_checkpoint(best_of(copied)).name == "step-00000001"


def test_a_record_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Catches a link that says another best than the record, and advice to remove the link."""
    run = saved_run(tmp_path / "run", 1, 2)
    promote(run, LOWEST.promoted(1, 2.0))
    (run / "best.json").rename(run / "before.json")
    (run / "best.json").mkdir()
    with pytest.raises(TrainingError, match=r"run/best\.json is a folder, where a file belongs; "):
        promote(run, LOWEST.promoted(2, 1.0))
    assert best_of(run).readlink() == Path("step-00000001")
    assert not list(run.glob("*.tmp"))
    (run / "best.json").rmdir()
    promote(run, LOWEST.promoted(2, 1.0))
    assert read_best(run) == LOWEST.promoted(2, 1.0)
    assert best_of(run).readlink() == Path("step-00000002")


def test_a_better_one_replaces_it(tmp_path: Path) -> None:
    """Catches a link that is made once, and one that a killed process half replaced."""
    run = saved_run(tmp_path, 1, 2)
    promote(run, LOWEST.promoted(1, 2.0))
    (tmp_path / "checkpoints" / "best.7.tmp").symlink_to("step-00000001")
    promote(run, LOWEST.promoted(1, 2.0).promoted(2, 1.0))
    assert best_of(run).readlink() == Path("step-00000002")
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["best", "step-00000001", "step-00000002"]


def test_it_stays_whatever_is_kept(tmp_path: Path) -> None:
    """Catches a rotation, or a prune, of the best: the newest are others."""
    run = saved_run(tmp_path, 1, 2, 3, 4)
    promote(run, LOWEST.promoted(2, 2.0))
    rotate(run, keep=1)
    assert [c.step for c in list_checkpoints(run)] == [2, 4]
    prune_command(run, 1, Console(file=io.StringIO()))
    assert [(c.step, c.best) for c in list_checkpoints(run)] == [(2, True), (4, False)]
    promote(run, LOWEST.promoted(2, 2.0).promoted(4, 1.0))
    rotate(run, keep=1)
    assert [c.step for c in list_checkpoints(run)] == [4]


def test_the_commands_know_it(tmp_path: Path) -> None:
    """Catches a command that takes a link for no checkpoint, or lists it as one more."""
    run = saved_run(tmp_path, 1, 2)
    promote(run, LOWEST.promoted(1, 2.0))
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    list_command(run, console)
    first, second = [line for line in printed.getvalue().splitlines() if "step-" in line]
    assert first.endswith("complete, the best")
    assert second.rstrip().endswith("complete")
    assert printed.getvalue().count("step-") == 2
    verify_command(best_of(run), console)
    diff_command(best_of(run), run, console)
    assert "is complete and unaltered" in printed.getvalue()
    assert "1 of 1 tensors differ" in printed.getvalue()


def test_a_best_that_is_gone_is_named(tmp_path: Path) -> None:
    """Catches "does not exist" of a link that everybody sees."""
    run = saved_run(tmp_path, 1)
    promote(run, LOWEST.promoted(1, 2.0))
    shutil.rmtree(run / "checkpoints" / "step-00000001")
    with pytest.raises(CheckpointError, match="is a link to step-00000001, which is gone"):
        resolve_checkpoint(best_of(run))


def test_a_resume_goes_on_from_what_it_knows(tmp_path: Path) -> None:
    """Catches a best value forgotten by a resume, so that any later one replaces it."""
    run = saved_run(tmp_path, 1, 2, 3)
    known = LOWEST.promoted(1, 3.0).promoted(2, 2.0)
    promote(run, known)
    assert resumed_best(run, "eval/loss", "lower", step=3) == known
    best_of(run).unlink()  # killed between the record and the link
    assert resumed_best(run, "eval/loss", "lower", step=3) == known
    assert best_of(run).readlink() == Path("step-00000002")


@pytest.mark.parametrize("why", ["earlier", "gone", "fails"])
def test_a_best_that_no_longer_counts_makes_room_for_the_one_before(
    tmp_path: Path, why: str
) -> None:
    """Catches a bar that no checkpoint at hand has reached, which no later one would pass."""
    run = saved_run(tmp_path, 1, 2, 3)
    promote(run, LOWEST.promoted(1, 3.0).promoted(3, 2.0))
    if why == "gone":
        shutil.rmtree(run / "checkpoints" / "step-00000003")
    found = resumed_best(
        run,
        "eval/loss",
        "lower",
        step=2 if why == "earlier" else 3,
        passes=lambda step: why != "fails" or step != 3,
    )
    assert found == LOWEST.promoted(1, 3.0)
    assert best_of(run).readlink() == Path("step-00000001")
    assert read_best(run) == found


def test_a_best_that_nothing_compares_with_stays_the_best(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a best that a newer version of its suite unlinks, so that the next rotation takes it.

    Negative control: its value is no bar to what is measured now.
    """
    run = saved_run(tmp_path, 1, 2, 3, 4)
    by_older = LOWEST.promoted(1, 4.0).promoted(2, 3.0)
    promote(run, by_older.promoted(4, 2.0))
    found = resumed_best(
        *(run, "eval/loss", "lower", 3),
        unlike=lambda step: "another version" if step == 2 else "",
    )
    assert found == LOWEST.promoted(1, 4.0)
    assert "step 2, was chosen by eval/loss of another version, which is not" in caplog.text
    assert (best_of(run).readlink(), read_best(run)) == (Path("step-00000002"), by_older)
    rotate(run, keep=1)
    assert [c.step for c in list_checkpoints(run)] == [2, 4]


def test_another_figure_begins_anew(tmp_path: Path) -> None:
    """Catches a loss compared with an accuracy; and a run without a best that gets files of one."""
    run = saved_run(tmp_path, 1)
    assert resumed_best(run, "eval/a/b", "higher", step=1).best is None
    assert read_best(run) is None
    promote(run, LOWEST.promoted(1, 3.0))
    assert resumed_best(run, "eval/a/b", "higher", step=1).best is None
    assert not best_of(run).is_symlink()
