import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.checkpoint.saving import WEIGHT, save, whole
from trainer.checkpoint import (
    CheckpointReader,
    Piece,
    latest_checkpoint,
    list_checkpoints,
    resolve_checkpoint,
    rotate,
)
from trainer.errors import CheckpointError


def block(report: int) -> None:
    """Tell the parent that the moment has come, and wait to be killed."""
    os.write(report, b".")
    signal.pause()


def while_writing_tensors(run: Path, report: int) -> None:
    def pieces() -> Iterator[Piece]:
        yield whole("a", WEIGHT)
        yield whole("b", WEIGHT)
        block(report)

    save(run, 2, pieces())


def before_the_manifest(run: Path, report: int) -> None:
    import trainer.checkpoint.write as write

    write.manifest_bytes = lambda _: block(report)  # type: ignore[assignment,return-value]
    save(run, 2)


def before_the_rename(run: Path, report: int) -> None:
    os.rename = lambda *_: block(report)
    save(run, 2)


@pytest.fixture
def interrupted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, Path, Callable[[], None]]]:
    """A run with a good step 1, and a process that stands still in the midst of saving step 2."""
    earlier = save(tmp_path, 1)
    ready, report = os.pipe()
    torch.set_num_threads(1)
    child = os.fork()
    if child == 0:
        try:
            request.param(tmp_path, report)
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"."
    dead = False

    def kill() -> None:
        nonlocal dead
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        dead = True

    yield tmp_path, earlier, kill
    if not dead:
        kill()


moments = pytest.mark.parametrize(
    "interrupted",
    [while_writing_tensors, before_the_manifest, before_the_rename],
    indirect=True,
    ids=lambda moment: moment.__name__,
)


@moments
def test_a_killed_save_is_never_loaded(
    interrupted: tuple[Path, Path, Callable[[], None]],
) -> None:
    """Would catch a half-written checkpoint taken for the newest one."""
    run, earlier, kill = interrupted
    (partial,) = (run / "checkpoints").glob("*.partial-*")
    kill()
    assert latest_checkpoint(run) == resolve_checkpoint(run) == earlier
    assert [c.step for c in list_checkpoints(run)] == [1]
    assert partial.exists()  # negative control: there is something to be mistaken about
    assert torch.equal(CheckpointReader(earlier).read("model/weight"), WEIGHT)


@moments
def test_leftovers_go_once_their_process_is_dead(
    interrupted: tuple[Path, Path, Callable[[], None]],
) -> None:
    """Would catch a pruning that destroys a save in progress, and a disk that fills with parts."""
    run, earlier, kill = interrupted
    rotate(run, keep=1)
    assert len(list((run / "checkpoints").glob("*.partial-*"))) == 1
    kill()
    age_unmarked(run)
    rotate(run, keep=1)
    assert [p.name for p in (run / "checkpoints").iterdir()] == [earlier.name]


def age_unmarked(run: Path) -> None:
    """Let an hour pass for a partial folder that has lost its lock: its age alone decides."""
    for partial in (run / "checkpoints").glob("*.partial-*"):
        if not (partial / "writing.lock").exists():
            os.utime(partial, (time.time() - 3600,) * 2)


@moments
def test_the_next_save_makes_room_and_succeeds(
    interrupted: tuple[Path, Path, Callable[[], None]],
) -> None:
    """Would catch a resumed run that trips over what its predecessor left."""
    run, _, kill = interrupted
    kill()
    age_unmarked(run)
    path = save(run, 2)
    assert latest_checkpoint(run) == path
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_a_partial_folder_is_refused_by_name(tmp_path: Path) -> None:
    """Would catch a user who loads the temporary folder by hand."""
    save(tmp_path, 1)
    partial = tmp_path / "checkpoints" / "step-00000002.partial-abc"
    partial.mkdir()
    (partial / "rank-00000.safetensors").write_bytes(b"")
    for opening in (CheckpointReader, resolve_checkpoint):
        with pytest.raises(CheckpointError, match="is not complete"):
            opening(partial)
