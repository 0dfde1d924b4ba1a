"""A save in the background holds the state of its moment, and its failures are the same on all."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import trainer.checkpoint.background
from tests.checkpoint.ranks import run_ranks
from tests.checkpoint.saving import whole
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer.checkpoint import Piece, list_checkpoints, open_checkpoint
from trainer.checkpoint.background import BackgroundSaver, FinishedSave, Snapshot
from trainer.checkpoint.files import FileWriter
from trainer.checkpoint.host_copy import HostCopy
from trainer.checkpoint.state import training_bytes, training_pieces
from trainer.recipe import Recipe
from trainer.saving import Saving

CPU = torch.device("cpu")


def test_a_copy_holds_what_was_and_its_memory_is_used_again() -> None:
    """Catches a view of a live tensor, pieces that overlap, and memory that grows with saves."""
    live = [
        whole("large", torch.randn(5000, 4001)),
        whole("half", torch.randn(3).to(torch.bfloat16)),
        whole("number", torch.tensor(3.0)),
        whole("none", torch.empty(0, 4)),
        Piece("columns", (6, 4), (0, 2), torch.randn(6, 4)[:, 2:]),
    ]
    before = [piece.tensor.clone() for piece in live]
    copies = HostCopy(CPU)
    taken = copies.take(iter(live))
    held = copies.nbytes
    for piece in live:
        piece.tensor.fill_(7.0)
    for piece, old in zip(taken, before, strict=True):
        assert torch.equal(piece.tensor, old) and piece.tensor.is_contiguous()
    assert [piece.offset for piece in taken][-1] == (0, 2)
    again = copies.take(iter(live))
    assert copies.nbytes == held
    assert all(bool((piece.tensor == 7.0).all()) for piece in again)


def test_memory_that_was_prepared_is_enough(tmp_path: Path) -> None:
    """Catches an estimate below what is saved: the first save would make memory all the same."""
    write_text(tmp_path)
    for keys in ({}, {"precision": "bf16", "checkpoint__average": {"kind": "ema"}}):
        recipe = recipe_of(tmp_path / f"run-{len(keys)}", tmp_path, steps=1, **keys)
        wanted, prepared = on_ranks(1, bytes_of_state, recipe)[0]
        assert wanted <= prepared <= 1.1 * wanted


def bytes_of_state(recipe: Recipe) -> tuple[int, int]:
    """Bytes of host memory that a rank's pieces take, and the estimate."""
    found: list[tuple[int, int]] = []
    save = Saving.save

    def saving(saver: Saving, last: bool = False) -> None:
        run = saver._run
        pieces = list(training_pieces(run.chunks, run.optimizer))
        taken = HostCopy(CPU)
        estimate = training_bytes(run.chunks, run.recipe.checkpoint.average is not None)
        taken.prepare(estimate)
        taken.take(pieces)
        assert taken.nbytes == estimate
        found.append((sum(piece.tensor.nbytes for piece in pieces), estimate))
        save(saver, last)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saving, "save", saving)
        assert train_here(recipe) is None
    return found[0]


def begin(saver: BackgroundSaver, run: Path, step: int, rank: int, value: torch.Tensor) -> None:
    """Begin to save a row a rank, which is changed at once."""
    pieces = saver.snapshot(1, [Piece("w", (2, 4), (rank, 0), value)])
    snapshot = Snapshot(run / "checkpoints", step, pieces, {}, {}, {"recipe.yaml": b"steps: 1\n"})
    saver.start([snapshot], began=0.0)
    value.fill_(-1.0)


def on_two_ranks(tmp_path: Path, act: Callable[[int, BackgroundSaver], object]) -> list[object]:
    return run_ranks(2, lambda rank: act(rank, BackgroundSaver(CPU, lambda: None)), tmp_path)


def test_the_writer_works_beside_and_writes_the_state_of_its_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a start that waits for the disk, and a save that is told twice or not at all."""
    write, room = FileWriter.write, threading.Event()

    def waiting(writer: FileWriter, content: bytes) -> None:
        assert room.wait(60)
        write(writer, content)

    monkeypatch.setattr(FileWriter, "write", waiting)

    def act(rank: int, saver: BackgroundSaver) -> object:
        begin(saver, tmp_path, 3, rank, torch.full((1, 4), float(rank + 1)))
        assert saver.busy and saver.poll() is None
        room.set()
        finished = saver.wait()
        assert not saver.busy and finished.error is None and finished.step == 3
        assert saver.poll() == finished and saver.poll() is None
        assert finished.nbytes == 16 and finished.write_seconds >= 0
        return True

    assert on_two_ranks(tmp_path, act) == [True, True]
    reader = open_checkpoint(tmp_path / "checkpoints" / "step-00000003")
    assert reader.read("w").tolist() == [[1.0] * 4, [2.0] * 4]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_save_that_fails_on_one_rank_is_tried_again_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Catches a rank that gives up alone, and one that tries for ever."""
    monkeypatch.setattr(trainer.checkpoint.background, "RETRIES_SECONDS", (0.0, 0.0))
    write, failed = FileWriter.write, []

    def full(writer: FileWriter, content: bytes) -> None:
        if "rank-00001" in str(writer._file.name) and len(failed) < failures:
            failed.append(True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, content)

    monkeypatch.setattr(FileWriter, "write", full)

    def act(rank: int, saver: BackgroundSaver) -> str:
        begin(saver, tmp_path, 3, rank, torch.ones(1, 4))
        return str(saver.wait().error)

    said = on_two_ranks(tmp_path, act)
    assert said[0] == said[1]
    if failures < 3:
        assert said[0] == "None" and [one.step for one in list_checkpoints(tmp_path)] == [3]
    else:
        assert "rank 1 could not save" in str(said[0]) and list_checkpoints(tmp_path) == []


def test_what_is_not_finite_on_one_rank_is_saved_by_none(tmp_path: Path) -> None:
    """Catches a spoilt half of a checkpoint beside a sound one."""

    def act(rank: int, saver: BackgroundSaver) -> str:
        assert not saver.spoilt
        begin(saver, tmp_path, 3, rank, torch.full((1, 4), float("nan") if rank else 1.0))
        finished: FinishedSave = saver.wait()
        assert saver.spoilt
        return f"{type(finished.error).__name__}: {finished.error}"

    said = on_two_ranks(tmp_path, act)
    assert said[0] == said[1] and str(said[0]).startswith("NotFiniteError: the weights")
    assert list_checkpoints(tmp_path) == []


def test_a_file_of_many_blocks_is_hashed_as_it_is_written(tmp_path: Path) -> None:
    """Catches a block that is hashed and not written, or written twice."""
    import hashlib

    content = os.urandom(9 << 20) + b"end"
    with FileWriter(tmp_path / "file") as out:
        out.write(b"head")
        out.write(content)
        out.write(b"tail")
    written = (tmp_path / "file").read_bytes()
    assert written == b"head" + content + b"tail"
    stored = out.stored()
    assert (stored.bytes, stored.sha256) == (len(written), hashlib.sha256(written).hexdigest())
