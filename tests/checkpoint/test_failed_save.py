import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.checkpoint.ranks import run_ranks
from tests.checkpoint.saving import WEIGHT, save, whole
from trainer.checkpoint import Piece, latest_checkpoint, verify_checkpoint
from trainer.checkpoint.files import FileWriter
from trainer.errors import CheckpointError, LyceumError, TrainingError


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str, after_bytes: int = 0) -> None:
    """Let writing the files whose name contains `name` fail as a full disk does."""
    write = FileWriter.write

    def failing(self: FileWriter, content: bytes) -> None:
        if name in str(self._file.name) and self._bytes >= after_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, content)

    monkeypatch.setattr(FileWriter, "write", failing)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.mark.parametrize("file", ["rank-00000", "rank-00002", "recipe.yaml", "checkpoint.json"])
def test_a_full_disk_on_one_rank_fails_all_and_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Would catch ranks that wait for ever, a half-written folder, and a lost earlier one."""
    earlier = save(tmp_path, 1)
    fill_disk(monkeypatch, file, after_bytes=9 if file.startswith("rank") else 0)

    def save_row(rank: int) -> str:
        with pytest.raises(TrainingError) as failure:
            save(tmp_path, 2, [Piece("w", (3, 6), (rank, 0), WEIGHT[rank : rank + 1])])
        assert names(tmp_path) == ["step-00000001"]
        return str(failure.value)

    lines = run_ranks(3, save_row, tmp_path)
    assert len(set(lines)) == 1 and "\n" not in lines[0]
    assert f"rank {2 if file == 'rank-00002' else 0} could not save" in lines[0]
    assert "No space left on device (free some space" in lines[0]
    assert latest_checkpoint(tmp_path) == earlier
    assert verify_checkpoint(earlier) == []


def test_a_write_that_the_kernel_refuses_is_one_line(tmp_path: Path) -> None:
    """Would catch a failure that only an injected error would show: here the limit is real."""

    def save_too_much(_: int) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with pytest.raises(TrainingError) as failure:
            save(tmp_path, 2, [whole("w", torch.zeros(100_000))])
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        return str(failure.value)

    save(tmp_path, 1)
    assert "File too large" in run_ranks(1, save_too_much, tmp_path)[0]
    assert names(tmp_path) == ["step-00000001"]


def test_other_ranks_do_not_wait_in_a_collective_for_the_rank_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a deadlock: taking the pieces gathers over ranks, and one has a full disk."""
    monkeypatch.setattr("trainer.checkpoint.write.FILE_BYTES", 8)
    fill_disk(monkeypatch, "rank-00001.safetensors")

    def gathered(rank: int) -> Iterator[Piece]:
        for number in range(4):
            total = torch.ones(2)
            dist.all_reduce(total)
            yield Piece(f"t{number}", (2, 2), (rank, 0), total.reshape(1, 2))

    def save_gathered(rank: int) -> str:
        with pytest.raises(TrainingError) as failure:
            save(tmp_path, 1, gathered(rank))
        return str(failure.value)

    assert all("rank 1 could not save" in line for line in run_ranks(2, save_gathered, tmp_path))


def test_a_failing_source_of_pieces_is_named(tmp_path: Path) -> None:
    """Would catch an error swallowed with the partial folder."""

    def broken() -> Iterator[Piece]:
        yield whole("a", WEIGHT)
        raise RuntimeError("out of memory\nwhile gathering")

    with pytest.raises(TrainingError, match="RuntimeError: out of memory while gathering"):
        save(tmp_path, 1, broken())
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([Piece("w", (4, 6), (0, 0), WEIGHT[:3])], "leave a hole"),
        ([Piece("w", (4, 6), (0, 0), WEIGHT), Piece("w", (4, 6), (1, 0), WEIGHT[1:])], "overlap"),
        ([whole("w", WEIGHT), whole("w", WEIGHT)], "overlap"),
        ([Piece("w", (4, 6), (1, 0), WEIGHT)], "outside"),
        ([whole("w", WEIGHT.to(torch.complex64))], "complex64 cannot be saved"),
        (
            [
                Piece("w", (4, 6), (0, 0), WEIGHT[:2]),
                Piece("w", (4, 6), (2, 0), WEIGHT[2:].double()),
            ],
            "float32.*float64",
        ),
    ],
    ids=["hole", "overlap", "twice", "outside", "dtype", "two dtypes"],
)
def test_pieces_that_do_not_fit_together_are_refused(
    tmp_path: Path, pieces: list[Piece], fault: str
) -> None:
    """Would catch a checkpoint that can only be found bad when it is needed."""
    with pytest.raises(CheckpointError, match=fault):
        save(tmp_path, 1, pieces)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", ""])
def test_attachments_stay_inside_the_checkpoint(tmp_path: Path, name: str) -> None:
    """Would catch a tokenizer file name that writes over something else."""
    with pytest.raises(CheckpointError, match="not a relative path"):
        save(tmp_path, 1, attachments={name: b""})
    assert [p.name for p in tmp_path.rglob("*outside*")] == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Would catch a stack trace where the run directory is in the way."""
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(LyceumError, match="could not save") as failure:
        save(tmp_path, 1)
    assert "\n" not in str(failure.value)
