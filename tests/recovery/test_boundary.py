import errno
import os
import socket
from pathlib import Path

import pytest

from trainer.errors import ContactLost, DataError, RankFailed, error_of
from trainer.recovery import FaultBoundary
from trainer.recovery.note import FAILURE_FILE, read_note

WHO = f"process {os.getpid()} on {socket.gethostname()}"


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rank 3 of a run leaves its note."""
    monkeypatch.setenv(FAILURE_FILE, str(tmp_path / "note.json"))
    monkeypatch.setenv("RANK", "3")
    return tmp_path / "note.json"


def fail(error: BaseException) -> RankFailed:
    """What becomes of an error in the forward and backward pass of step 7."""
    with pytest.raises(RankFailed) as failed, FaultBoundary() as faults:
        faults.heartbeat.beat("forward and backward", 7)
        raise error
    return failed.value


def test_a_fault_is_named_with_rank_process_host_phase_step_and_cause(note: Path) -> None:
    """Catches a failure of which nobody learns where it was."""
    line = str(fail(ValueError("no such\nthing")))
    assert line.startswith(f"rank 3 ({WHO}) failed in forward and backward of step 7: ValueError: ")
    assert "no such (" in line and "test_boundary.py:" in line
    assert line.endswith("; the same command goes on from what was saved")
    left = read_note(note)
    assert left is not None and left["error"] is not None
    assert str(error_of(left["error"])) == line
    assert "ValueError: no such" in left["trace"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
    ],
    ids=str,
)
def test_want_of_memory_is_told_apart(error: Exception) -> None:
    """Catches a person who looks for a bug where a smaller micro-batch would do."""
    assert "out of memory" in str(fail(error)) and "batch.micro" in str(fail(error))


def test_a_lost_connection_is_a_consequence() -> None:
    """Catches the healthy rank blamed, which only saw the other one go."""
    text = "[../third_party/gloo/gloo/transport/tcp/pair.cc:537] Connection closed by peer"
    assert type(fail(RuntimeError(text))) is ContactLost


def test_a_full_disk_names_its_file() -> None:
    """Catches "No space left on device" without a word of which device."""
    assert "/full/metrics.jsonl" in str(
        fail(OSError(errno.ENOSPC, "No space left on device", "/full/metrics.jsonl"))
    )


def test_what_a_user_caused_stays_as_it_is(note: Path) -> None:
    """Catches a bad shard reported as a fault of the machine, with another exit code."""
    with pytest.raises(DataError, match=r"^a shard is gone$"), FaultBoundary():
        raise DataError("a shard is gone")
    left = read_note(note)
    assert left is not None and left["error"] is not None and left["error"]["exit_code"] == 3


def test_the_note_is_there_before_the_rank_unwinds(note: Path) -> None:
    """Catches a note that waits for what hangs on the way out, as a collective would."""
    seen = []

    class Unwinding:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            seen.append(note.exists())
            raise RuntimeError("gloo: and this failed on the way out")

    with (
        pytest.raises(RankFailed, match="the cause"),
        FaultBoundary() as faults,
        Unwinding(),
        faults,
    ):
        raise ValueError("the cause")
    assert seen == [True]


def test_a_keyboard_interrupt_passes(note: Path) -> None:
    """Catches a person's second CTRL-C reported as a failed rank."""
    with pytest.raises(KeyboardInterrupt), FaultBoundary():
        raise KeyboardInterrupt
    assert not note.exists()


def test_a_rank_that_does_not_unwind_ends_itself(tmp_path: Path) -> None:
    """Catches a rank under torchrun that fails in one collective and hangs in another for ever."""
    pid = os.fork()
    if pid == 0:
        os.environ["WORLD_SIZE"] = "2"
        import trainer.recovery.boundary as boundary

        boundary.UNWINDING_SECONDS = 0.05

        class Hanging:
            def __enter__(self) -> None: ...

            def __exit__(self, *_: object) -> None:
                while True:
                    os.read(os.pipe()[0], 1)

        with FaultBoundary() as faults, Hanging(), faults:
            raise ValueError("the cause")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == RankFailed.exit_code
