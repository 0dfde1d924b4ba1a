"""What lies on the machines' own disks is brought to the run directory, or said to be left out."""

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import trainer.checkpoint.background
from tests.checkpoint.ranks import run_ranks
from tests.checkpoint.saving import save
from tests.training.runs import recipe_of
from trainer.checkpoint import Piece, list_checkpoints, open_checkpoint
from trainer.checkpoint.background import BackgroundSaver, Snapshot
from trainer.checkpoint.files import FileWriter
from trainer.checkpoint.local import bring_home, forget, local_folder, tidy
from trainer.checkpoint.marks import is_settled, mark_unsettled
from trainer.errors import RecipeError, TrainingError
from trainer.parallel.agreement import Ranks

CPU = torch.device("cpu")
Write = Callable[[FileWriter, bytes | memoryview], None]


def machine(tmp_path: Path, rank: int) -> Path:
    """The own disk of a rank's machine: each rank has another."""
    return tmp_path / f"machine-{rank}"


def save_by_way_of(tmp_path: Path, rank: int, step: int = 3) -> str:
    """Save a row a rank by way of its machine's disk; why it could not be, or "None"."""
    saver = BackgroundSaver(CPU, lambda: None, machine(tmp_path, rank))
    pieces = saver.snapshot(1, [Piece("w", (2, 4), (rank, 0), torch.full((1, 4), float(rank + 1)))])
    attachments = {"recipe.yaml": b"steps: 1\n", "tokenizer/tokenizer.json": b"{}"}
    local = machine(tmp_path, rank) / "checkpoints"
    folder = tmp_path / "run/checkpoints"
    snapshot = Snapshot(folder, step, pieces, {}, {"tokens": step}, attachments, local)
    saver.start([snapshot], began=0.0)
    return str(saver.wait().error)


def on_the_disks(tmp_path: Path) -> list[str]:
    found = (path for rank in (0, 1) for path in machine(tmp_path, rank).rglob("*"))
    return sorted(path.name for path in found if path.is_file())


def failing(monkeypatch: pytest.MonkeyPatch, where: str, most: int = 100) -> None:
    """Let each file below such a path find no room, for so many times."""
    monkeypatch.setattr(trainer.checkpoint.background, "RETRIES_SECONDS", (0.0, 0.0))
    write, failed = FileWriter.write, []

    def full(writer: FileWriter, content: bytes | memoryview) -> None:
        if where in str(writer._file.name) and len(failed) < most:
            failed.append(True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, content)

    monkeypatch.setattr(FileWriter, "write", full)


def values(tmp_path: Path) -> list[list[float]]:
    reader = open_checkpoint(tmp_path / "run/checkpoints/step-00000003")
    assert reader.attachment("tokenizer/tokenizer.json") == b"{}"
    read: list[list[float]] = reader.read("w").tolist()
    return read


def test_what_is_saved_lies_on_the_machines_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a part that comes home before all are safe, and one that stays behind."""
    write = FileWriter.write

    def seen(writer: FileWriter, content: bytes | memoryview) -> None:
        if "/run/" in str(writer._file.name):
            whole = {"rank-00000.safetensors", "rank-00001.safetensors", "checkpoint.json"}
            assert whole <= set(on_the_disks(tmp_path)), writer._file.name
        write(writer, content)

    monkeypatch.setattr(FileWriter, "write", seen)
    said = run_ranks(2, lambda rank: save_by_way_of(tmp_path, rank), tmp_path)
    assert said == ["None", "None"]
    assert values(tmp_path) == [[1.0] * 4, [2.0] * 4]
    assert on_the_disks(tmp_path) == []


def test_a_full_disk_of_one_machine_is_gone_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a save that fails as what should help it does, and one that goes around unsaid."""
    failing(monkeypatch, "machine-1/")

    def act(rank: int) -> list[str]:
        with caplog.at_level(logging.WARNING):
            return [save_by_way_of(tmp_path, rank), caplog.text]

    first, second = run_ranks(2, act, tmp_path)
    assert (first[0], second[0]) == ("None", "None")
    assert "rank 1 could not write" in first[1] and "No space left" in first[1]
    assert "it goes to the run directory at once" in first[1] and second[1] == ""
    assert values(tmp_path) == [[1.0] * 4, [2.0] * 4]
    assert on_the_disks(tmp_path) == []


@pytest.mark.parametrize("block", ["header", "values"])
def test_what_the_disk_holds_otherwise_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    """Catches a save that believes that what it wrote is what can be read."""
    monkeypatch.setattr(trainer.checkpoint.background, "RETRIES_SECONDS", (0.0, 0.0))
    leave = FileWriter.__exit__

    def altered(writer: FileWriter, *error: object) -> None:
        leave(writer, *error)  # type: ignore[arg-type]
        path = Path(str(writer._file.name))
        if path.name == "rank-00001.safetensors" and "/run/" in str(path):
            content = bytearray(path.read_bytes())
            content[20 if block == "header" else -1] ^= 1
            path.write_bytes(content)

    monkeypatch.setattr(FileWriter, "__exit__", altered)
    said = run_ranks(2, lambda rank: save_by_way_of(tmp_path, rank), tmp_path)
    assert said[0] == said[1]
    assert "rank 1 could not save" in said[0]
    assert "rank-00001.safetensors is not what was written to it" in said[0]
    assert list_checkpoints(tmp_path / "run") == []
    assert len(on_the_disks(tmp_path)) == 5  # two parts, the manifest and what is beside it


def left_on_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save whose run directory has no room: it lies on two machines' own disks."""
    with monkeypatch.context() as patch:
        failing(patch, "/run/")
        said = run_ranks(2, lambda rank: save_by_way_of(tmp_path, rank), tmp_path)
    assert said[0] == said[1] and "No space left" in said[0]
    assert "the next start with resume=auto takes it" in said[0]
    assert list_checkpoints(tmp_path / "run") == []


def brought_home(tmp_path: Path, machines: list[int], resumes: bool = True) -> str:
    """Start on such machines, one a rank; what is said of what lies there."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("trainer.checkpoint.local")

    def act(rank: int) -> list[str]:
        log.addHandler(handler)
        root = machine(tmp_path, machines[rank])
        try:
            bring_home(root, tmp_path / "run", Ranks(), resumes, lambda: None)
            forget(root)
            tidy(root)
        except TrainingError as error:
            said.append(f"error: {error}")
        log.removeHandler(handler)
        return said

    heard: list[list[str]] = run_ranks(len(machines), act, tmp_path)
    return "\n".join(heard[0])


@pytest.mark.parametrize("machines", [[0, 1], [1, 0], [0, 1, 1]])
def test_the_next_start_brings_home_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: list[int]
) -> None:
    """Catches a start that finds parts by rank, though ranks may meet other machines."""
    left_on_the_disks(tmp_path, monkeypatch)
    said = brought_home(tmp_path, machines)
    assert "step-00000003 lay on the machines' own disks alone, and is in" in said
    assert values(tmp_path) == [[1.0] * 4, [2.0] * 4]
    assert on_the_disks(tmp_path) == []
    assert brought_home(tmp_path, machines) == ""


def test_what_cannot_be_whole_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a checkpoint with a hole, and altered parts that are believed."""
    left_on_the_disks(tmp_path, monkeypatch)
    kept = tmp_path / "kept"
    for rank in (0, 1):
        shutil.copytree(machine(tmp_path, rank), kept / f"machine-{rank}")

    def left_again() -> Path:
        for rank in (0, 1):
            shutil.rmtree(machine(tmp_path, rank), ignore_errors=True)
            shutil.copytree(kept / f"machine-{rank}", machine(tmp_path, rank))
        return next(machine(tmp_path, 1).rglob("rank-00001.safetensors"))

    said = brought_home(tmp_path, [0])
    assert "is left out: " in said and "rank-00001.safetensors is on none of the mach" in said
    part = left_again()
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    said = brought_home(tmp_path, [0, 1])
    assert "is left out: " in said and "rank-00001.safetensors was altered" in said
    assert list_checkpoints(tmp_path / "run") == [] and on_the_disks(tmp_path) == []
    left_again()
    assert "does not go on from it" in brought_home(tmp_path, [0, 1], resumes=False)
    assert list_checkpoints(tmp_path / "run") == [] and on_the_disks(tmp_path) == []
    left_again()
    save(tmp_path / "run", 4)
    assert brought_home(tmp_path, [0, 1]) == ""
    assert [one.step for one in list_checkpoints(tmp_path / "run")] == [4]
    assert on_the_disks(tmp_path) == []


def test_an_older_one_is_taken_where_the_newest_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a whole checkpoint that is removed for a later one that is none."""
    left_on_the_disks(tmp_path, monkeypatch)
    cut = machine(tmp_path, 0) / "checkpoints/step-00000009.partial-0123456789ab"
    cut.mkdir()
    (cut / "checkpoint.json").write_text("")
    said = brought_home(tmp_path, [0, 1])
    assert "step-00000009 lay on the machines' own disks alone, and is left out" in said
    assert "step-00000003 lay on the machines' own disks alone, and is in" in said
    assert values(tmp_path) == [[1.0] * 4, [2.0] * 4]


@pytest.mark.parametrize("name", ["rank-00001.safetensors", "checkpoint.json"])
def test_what_cannot_be_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Catches a broken disk that lets no start be made any more."""
    left_on_the_disks(tmp_path, monkeypatch)
    (path,) = (p for rank in (0, 1) for p in machine(tmp_path, rank).rglob(name))
    path.unlink()
    path.symlink_to("/proc/self/mem")  # whose first bytes cannot be read
    said = brought_home(tmp_path, [0, 1])
    assert "is left out: " in said and f"{path} cannot be read" in said
    assert list_checkpoints(tmp_path / "run") == []


def test_what_finds_no_room_again_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a start that goes on from an earlier step as the disk is still full."""
    left_on_the_disks(tmp_path, monkeypatch)
    with monkeypatch.context() as patch:
        failing(patch, "/run/")
        said = brought_home(tmp_path, [0, 1])
    assert "error: rank 0 could not save" in said and "No space left" in said
    assert len(on_the_disks(tmp_path)) == 5
    assert "is in" in brought_home(tmp_path, [0, 1])
    assert values(tmp_path) == [[1.0] * 4, [2.0] * 4]


def test_a_course_that_is_given_up_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run that went back behind a spike and meets the spoilt course at its next start."""
    left_on_the_disks(tmp_path, monkeypatch)
    for rank in (0, 1):
        forget(machine(tmp_path, rank))
    assert on_the_disks(tmp_path) == [] and brought_home(tmp_path, [0, 1]) == ""
    assert list_checkpoints(tmp_path / "run") == []


def test_a_run_directory_that_is_away_keeps_nothing_from_the_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a save that gives up before its state is safe, as it cannot begin at home."""
    monkeypatch.setattr(trainer.checkpoint.background, "RETRIES_SECONDS", (0.0, 0.0))
    (tmp_path / "run").write_text("no folder")
    said = run_ranks(2, lambda rank: save_by_way_of(tmp_path, rank), tmp_path)
    assert "the next start with resume=auto takes it" in said[0]
    (tmp_path / "run").unlink()
    assert "is in" in brought_home(tmp_path, [0, 1])
    assert values(tmp_path) == [[1.0] * 4, [2.0] * 4]


def test_what_had_not_settled_has_not_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a way round the steps that a checkpoint has to stand."""
    left_on_the_disks(tmp_path, monkeypatch)
    mark_unsettled(tmp_path / "run/checkpoints", 3)
    brought_home(tmp_path, [0, 1])
    assert not is_settled(tmp_path / "run/checkpoints/step-00000003")


def test_a_disk_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Catches a run that begins, and saves in another way than was asked."""
    run = tmp_path / "run"
    run.mkdir()
    blocked = tmp_path / "file"
    blocked.write_text("")
    for local, line in (
        (blocked, "cannot be written on"),
        (run / "disk", "lies in the run itself"),
    ):
        recipe = recipe_of(run, tmp_path, checkpoint__local=str(local))
        with pytest.raises(RecipeError, match=line):
            local_folder(recipe, Ranks())


def test_two_runs_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    """Catches a run that takes another's checkpoint for its own."""
    found = set()
    for place in ("a", "b"):
        run = tmp_path / place / "run"
        run.mkdir(parents=True)
        recipe = recipe_of(run, tmp_path, checkpoint__local=str(tmp_path / "disk"))
        folder = local_folder(recipe, Ranks())
        assert folder == local_folder(recipe, Ranks())
        found.add(folder)
    assert len(found) == 2
    (tmp_path / "a/run").rename(tmp_path / "a/renamed")
    recipe = recipe_of(tmp_path / "a/renamed", tmp_path, checkpoint__local=str(tmp_path / "disk"))
    assert local_folder(recipe, Ranks()) in found
