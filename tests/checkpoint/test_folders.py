import os
import shutil
from pathlib import Path

import pytest

from tests.checkpoint.saving import save
from trainer.checkpoint import (
    latest_checkpoint,
    list_checkpoints,
    resolve_checkpoint,
    rotate,
)
from trainer.checkpoint.folders import say_what_is_passed_over
from trainer.errors import CheckpointError


def steps(run: Path) -> list[int]:
    return [c.step for c in list_checkpoints(run)]


def damage(path: Path) -> None:
    (path / "checkpoint.json").unlink()


def test_the_newest_stay(tmp_path: Path) -> None:
    """Would catch a rotation in the order of names or times instead of steps."""
    for step in (300, 5, 20, 100_000_000):
        save(tmp_path, step)
    removed = rotate(tmp_path, keep=2)
    assert steps(tmp_path) == [300, 100_000_000]
    assert [path.name for path in removed] == ["step-00000005", "step-00000020"]


def test_keep_zero_keeps_all(tmp_path: Path) -> None:
    """Would catch "keep all" taken as "keep none"."""
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert rotate(tmp_path, keep=0) == []
    assert steps(tmp_path) == [1, 2, 3]


def test_protected_checkpoints_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a protection that fails for a path written another way."""
    for step in (1, 2, 3):
        save(tmp_path, step)
    monkeypatch.chdir(tmp_path)
    rotate(tmp_path, keep=1, protect=[Path("checkpoints/step-00000001")])
    assert steps(tmp_path) == [1, 3]


def test_damaged_ones_do_not_count_and_the_newest_good_one_stays(tmp_path: Path) -> None:
    """Would catch a rotation that counts a broken checkpoint and removes the last good one, or that
    takes away the broken ones, which tell what happened.
    """
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    damage(tmp_path / "checkpoints" / "step-00000002")
    damage(tmp_path / "checkpoints" / "step-00000004")
    rotate(tmp_path, keep=1)
    assert steps(tmp_path) == [2, 3, 4]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000003"


def test_without_a_good_one_nothing_is_removed(tmp_path: Path) -> None:
    """Would catch a rotation that takes away the evidence."""
    for step in (1, 2):
        damage(save(tmp_path, step))
    assert rotate(tmp_path, keep=1) == []
    assert steps(tmp_path) == [1, 2]
    assert latest_checkpoint(tmp_path) is None


def test_a_removal_cut_short_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a checkpoint that loses files under its own name when the process dies."""
    save(tmp_path, 1)
    save(tmp_path, 2)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            rotate(tmp_path, keep=1)
    assert steps(tmp_path) == [2]
    rotate(tmp_path, keep=1)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_checkpoint_that_cannot_be_removed_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch training that dies because an old folder is read-only."""
    save(tmp_path, 1)
    save(tmp_path, 2)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as readonly:
        readonly.setattr("os.rename", refuse)
        assert rotate(tmp_path, keep=1) == []
    assert steps(tmp_path) == [1, 2]


def test_names_that_are_no_checkpoints_are_left_alone(tmp_path: Path) -> None:
    """Would catch a rotation that removes a user's own copy."""
    path = save(tmp_path, 1)
    for name in ("best", "step-1", "step-00000001-copy"):
        shutil.copytree(path, path.with_name(name))
    save(tmp_path, 2)
    rotate(tmp_path, keep=1)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["best", "step-00000001-copy", "step-00000002", "step-1"]


def test_what_a_user_names_is_resolved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Would catch commands that take only one of a run and a checkpoint, an older one in silence,
    and a run that is to be trained first though one of its files is gone.
    """
    with pytest.raises(CheckpointError, match="is not complete"):
        resolve_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        resolve_checkpoint(tmp_path / "nowhere")
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    assert resolve_checkpoint(tmp_path) == second
    assert resolve_checkpoint(first) == first
    assert list_checkpoints(tmp_path / "nowhere") == []
    say_what_is_passed_over(tmp_path, second)
    assert caplog.messages == []
    damage(second)
    say_what_is_passed_over(tmp_path, resolve_checkpoint(tmp_path))
    (line,) = caplog.messages
    assert ": step-00000001 is read, as " in line and "step-00000002" in line.partition(" as ")[2]
    damage(first)
    with pytest.raises(
        CheckpointError, match=r"no complete checkpoint: .*step-00000002 .*; put it"
    ):
        resolve_checkpoint(tmp_path)


def test_training_beside_a_reader_takes_no_checkpoint_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a stack trace, or a checkpoint told as damaged, when training rotates it away."""
    for step in (1, 2, 3):
        save(tmp_path, step)
    first, second, third = (one.path for one in list_checkpoints(tmp_path))
    damage(first)
    stat = Path.stat

    def rotating(path: Path, **options: bool) -> os.stat_result:
        if path.parent == third and path.name != "checkpoint.json":
            shutil.rmtree(third, ignore_errors=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", rotating)
    say_what_is_passed_over(tmp_path, second)
    assert steps(tmp_path) == [1, 2]
    shutil.rmtree(second)  # the one that is read may itself be rotated away
    say_what_is_passed_over(tmp_path, second)
    assert caplog.messages == []
    monkeypatch.undo()
    damage(save(tmp_path, 3))  # negative control
    say_what_is_passed_over(tmp_path, second)
    (line,) = caplog.messages
    assert ": step-00000002 is read, as " in line and "step-00000003" in line


def test_a_listing_goes_on_when_a_checkpoint_is_rotated_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch `lyceum checkpoints` ending in a stack trace beside a training run."""
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    stat = Path.stat

    def rotating(path: Path, **options: bool) -> os.stat_result:
        if path.parent == first:
            shutil.rmtree(first, ignore_errors=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", rotating)
    assert [one.path for one in list_checkpoints(tmp_path)] == [second]
    assert not first.exists()  # negative control: it went away while it was listed


def test_the_newest_is_found_while_training_rotates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a run that is told to have no checkpoint as its only one was just replaced."""
    first = save(tmp_path, 1)
    stat = Path.stat

    def rotating(path: Path, **options: bool) -> os.stat_result:
        if path.parent == first:
            monkeypatch.undo()
            save(tmp_path, 2)
            rotate(tmp_path, keep=1)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", rotating)
    found = resolve_checkpoint(tmp_path)
    assert found.name == "step-00000002" and not first.exists()
    (found.parent / "step-00000003").symlink_to("nowhere")  # gone for ever, and not looked for
    damage(found)
    assert latest_checkpoint(tmp_path) is None


def test_checkpoints_that_may_not_be_looked_at_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a search without end where a folder can be listed, and what is in it not be seen."""
    (tmp_path / "checkpoints" / "step-00000004").mkdir(parents=True)
    looks: list[object] = []

    def closed(path: object, *args: object, **keys: object) -> None:
        looks.append(path)
        assert len(looks) < 50, "it looks without end"
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "lstat", closed)
    monkeypatch.setattr(Path, "lstat", closed)
    assert latest_checkpoint(tmp_path) is None
