"""Local ranks start, end and fail together; no model needed."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.local import result_on_ranks, run_local
from launch.ports import own_port
from launch.ranks import run_ranks
from trainer.errors import ClusterError, ContactLost, DataError, RankFailed, StopRequested
from trainer.recovery.note import write_note

HANGS = 600
"""Seconds after which a process that should have ended hangs, on the busiest machine too."""

NAMES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS"),
)


def recorder(folder: Path) -> Callable[[], int]:
    """A worker that writes down what it finds in its environment."""

    def worker() -> int:
        found = {name: os.environ.get(name) for name in NAMES}
        (folder / f"{found['RANK']}.json").write_text(json.dumps(found))
        return 0

    return worker


def recorded(folder: Path) -> list[dict[str, str]]:
    """What the recorders wrote, by rank."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def running(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; a test that waits in vain fails."""
    deadline = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def endless(folder: Path) -> Callable[[], int]:
    """A worker that says that it is there, then waits for a signal."""

    def worker() -> int:
        (folder / f"{os.environ['RANK']}.json").write_text(str(os.getpid()))
        while True:
            signal.pause()

    return worker


def test_each_rank_finds_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches ranks that take each other's number, or meet at different addresses."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    assert run_ranks(recorder(tmp_path), 3, "cpu") == 0
    found = recorded(tmp_path)
    assert [(f["RANK"], f["LOCAL_RANK"]) for f in found] == [(str(n), str(n)) for n in range(3)]
    assert {(f["WORLD_SIZE"], f["LOCAL_WORLD_SIZE"]) for f in found} == {("3", "3")}
    assert {f["OMP_NUM_THREADS"] for f in found} == {str(max(1, (os.cpu_count() or 1) // 3))}
    assert len({(f["MASTER_ADDR"], f["MASTER_PORT"]) for f in found}) == 1
    assert "RANK" not in os.environ


def test_given_threads_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a person's choice overwritten."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run_ranks(recorder(tmp_path), 1, "cpu")
    assert recorded(tmp_path)[0]["OMP_NUM_THREADS"] == "7"


def test_port_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches ranks that join somebody else's rendezvous, or wait for it in vain."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("MASTER_PORT", port)
        with pytest.raises(ClusterError, match=f"port {port}"):
            run_ranks(recorder(tmp_path), 2, "cpu")
    assert recorded(tmp_path) == []
    assert run_ranks(recorder(tmp_path), 2, "cpu") == 0
    assert {f["MASTER_PORT"] for f in recorded(tmp_path)} == {port}


def test_nobody_else_gets_the_port_while_the_ranks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a port that another process took between the choice and the ranks' meeting."""
    monkeypatch.delenv("MASTER_PORT", raising=False)

    def worker() -> int:
        port = int(os.environ["MASTER_PORT"])
        with socket.socket() as other:
            try:
                other.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                raise DataError("somebody else could have had the port")
        with socket.socket() as store:  # as the first rank's
            store.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            store.bind(("", port))
            store.listen()
        return 0

    assert run_ranks(worker, 1, "cpu") == 0


def test_two_launches_at_one_port_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches ranks of two runs that meet each other, before either's store listens."""
    with own_port() as port:
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(ClusterError, match=f"port {port} cannot be used"):
            run_ranks(recorder(tmp_path), 2, "cpu")
    assert recorded(tmp_path) == []
    assert run_ranks(recorder(tmp_path), 2, "cpu") == 0


def test_a_given_port_serves_the_next_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run refused for a minute because the one before it met at the same port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = server.accept()
        served.close()  # the side that closes first keeps the port in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    with socket.socket() as strict, pytest.raises(OSError, match="in use"):
        strict.bind(("127.0.0.1", port))
    monkeypatch.setenv("MASTER_PORT", str(port))
    assert run_ranks(recorder(tmp_path), 2, "cpu") == 0
    assert {f["MASTER_PORT"] for f in recorded(tmp_path)} == {str(port)}


@pytest.mark.parametrize("port", ["many", "-1", "70000"])
def test_impossible_port_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a stack trace for a mistyped MASTER_PORT."""
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(ClusterError, match=port):
        run_ranks(lambda: 0, 1, "cpu")


def test_error_of_one_rank_is_raised_once_and_ends_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches a run that hangs, or that reports a consequence instead of the cause."""
    waiting = endless(tmp_path)

    def worker() -> int:
        if os.environ["RANK"] == "0":
            raise RuntimeError("connection closed by peer")
        if os.environ["RANK"] == "2":
            raise DataError("shard train/shard-00001.tar is truncated")
        return waiting()

    with pytest.raises(DataError) as caught:
        run_ranks(worker, 4, "cpu", grace_seconds=0.2)
    assert str(caught.value) == "shard train/shard-00001.tar is truncated"
    assert capfd.readouterr().err == ""
    assert not any(running(int(path.read_text())) for path in tmp_path.glob("*.json"))


def test_same_error_on_all_ranks_is_one_error() -> None:
    """Catches eight copies of one line."""

    def worker() -> int:
        raise DataError(f"the corpus is empty (rank {os.environ['RANK']})")

    with pytest.raises(DataError, match="rank 0"):
        run_ranks(worker, 3, "cpu")


def test_bug_of_one_rank_shows_its_trace_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """Catches a stack trace lost with the rank, and traces of all ranks mixed up."""

    def worker() -> int:
        raise ValueError(f"a bug on {os.environ['RANK']}")

    assert run_ranks(worker, 3, "cpu") == 1
    shown = capfd.readouterr().err
    assert shown.count("Traceback") == 1
    assert "a bug on" in shown


def test_exit_code_of_the_first_failing_rank_is_returned() -> None:
    """Catches a failure that looks like success."""
    assert run_ranks(lambda: 4 * (os.environ["RANK"] == "1"), 2, "cpu", grace_seconds=0.2) == 4


def test_rank_killed_is_named(tmp_path: Path) -> None:
    """Catches a run that waits for a rank that the kernel has ended."""
    waiting = endless(tmp_path)

    def worker() -> int:
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return waiting()

    with pytest.raises(RankFailed, match=r"rank 1 was ended by SIGKILL.* goes on from what was"):
        run_ranks(worker, 2, "cpu", grace_seconds=0.2)


def test_a_rank_that_says_why_and_hangs_is_the_cause(tmp_path: Path) -> None:
    """Catches a failing rank that unwinds into a collective, and the run that waits for it."""
    waiting = endless(tmp_path)

    def worker() -> int:
        if os.environ["RANK"] == "1":
            write_note(ValueError(), RankFailed("rank 1 failed in a backward pass"))
        return waiting()

    with pytest.raises(RankFailed, match="rank 1 failed in a backward pass") as failed:
        run_ranks(worker, 3, "cpu", grace_seconds=0.2)
    assert failed.value.rank == 1


def test_the_first_to_fail_is_the_cause_and_lost_contact_never_is(tmp_path: Path) -> None:
    """Catches a healthy rank blamed, as its connections were closed."""
    (tmp_path / "first").touch()

    def worker() -> int:
        number = int(os.environ["RANK"])
        if number == 0:
            raise ContactLost("rank 0 lost the others")
        if number == 2:  # later than rank 1
            wait_for(lambda: not (tmp_path / "first").exists())
            raise RankFailed("rank 2 failed")
        error = RankFailed("rank 1 failed")
        write_note(error)
        (tmp_path / "first").unlink()
        raise error

    with pytest.raises(RankFailed, match="rank 1 failed"):
        run_ranks(worker, 3, "cpu")


def test_stop_of_all_ranks_is_a_stop_and_a_failure_beside_it_a_failure() -> None:
    """Catches exit code 75 for a run that cannot be resumed so."""

    def stopping() -> int:
        raise StopRequested("stopped after step 3")

    with pytest.raises(StopRequested):
        run_ranks(stopping, 2, "cpu")
    assert run_ranks(lambda: 1 if os.environ["RANK"] == "1" else stopping(), 2, "cpu") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_there_is_anything_to_save_is_one_line(number: signal.Signals) -> None:
    """Catches a Ctrl-C without a word, and words about training where nothing was trained."""

    def worker() -> int:
        if os.environ["RANK"] == "0":
            os.kill(os.getppid(), number)
        while True:
            signal.pause()

    with pytest.raises(StopRequested) as stopped:
        run_ranks(worker, 2, "cpu")
    assert str(stopped.value) == (
        f"{number.name} came before the next save; the same command goes on from what is kept"
    )


def test_alone_or_as_a_rank_the_worker_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches ranks that start ranks under torchrun, and a fork where none is needed."""
    here = os.getpid()
    assert run_local(lambda: int(os.getpid() != here), None) == 0
    assert run_local(lambda: int(os.getpid() != here), 1) == 0
    monkeypatch.setenv("RANK", "0")
    assert run_local(lambda: int(os.getpid() != here), 4) == 0


def test_the_result_of_ranks_is_the_first_ones_from_a_process_of_its_own() -> None:
    """Catches the last rank's result in place of the first's, and a single rank that runs here."""
    here = os.getpid()
    for ranks in (1, 2):
        rank, process = result_on_ranks(lambda: [os.environ["RANK"], os.getpid()], ranks)
        assert rank == "0" and process != here


def test_ranks_with_a_result_are_on_the_cpu_of_a_machine_with_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches two forks that both look for a GPU of their own where the machine has one."""
    import torch

    from trainer.parallel.join import choose_device

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto").type == "cuda", "or nothing is shown"
    assert result_on_ranks(lambda: choose_device("auto").type, 2) == "cpu"


def test_the_exit_code_of_a_rank_with_a_result_is_passed_on() -> None:
    """Catches a result that is read where a rank failed without an error to raise."""
    with pytest.raises(SystemExit) as request:
        result_on_ranks(lambda: sys.exit(7), 2)
    assert request.value.code == 7


STARTER = """
import os, signal, sys
from pathlib import Path
from launch.ranks import run_ranks
from trainer.errors import StopRequested

def worker():
    note = Path(sys.argv[1]) / f"{os.environ['RANK']}.json"
    def stop(number, frame):
        note.with_suffix(".signal").write_text(signal.Signals(number).name)
        raise StopRequested("stopped")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, stop)
    note.with_suffix(".partial").write_text(str(os.getpid()))
    note.with_suffix(".partial").rename(note)
    while True:
        signal.pause()

if __name__ == "__main__":
    try:
        sys.exit(run_ranks(worker, 2, "cpu"))
    except StopRequested as stop:
        sys.exit(stop.exit_code)
"""


def started(folder: Path, program: str = STARTER) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A process that started two waiting ranks, and their process ids."""
    starter = subprocess.Popen([sys.executable, "-c", program, str(folder)], process_group=0)
    wait_for(lambda: len(list(folder.glob("*.json"))) == 2)
    return starter, [int(path.read_text()) for path in folder.glob("*.json")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_signal_reaches_every_rank_once(tmp_path: Path, number: signal.Signals) -> None:
    """Catches a Ctrl-C that ends the starter and leaves ranks behind, or that arrives twice."""
    starter, ranks = started(tmp_path)
    # As a terminal does it: to the whole group of the starter.
    os.killpg(starter.pid, number)
    assert starter.wait(timeout=HANGS) == 75
    assert [path.read_text() for path in tmp_path.glob("*.signal")] == [number.name] * 2
    assert not any(running(pid) for pid in ranks)


def test_stop_before_training_begins_is_a_stop(tmp_path: Path) -> None:
    """Catches a SIGTERM during the imports reported as a rank that ran out of memory."""
    program = STARTER.replace("signal.signal(number, stop)", "pass")
    starter, ranks = started(tmp_path, program)
    starter.terminate()
    assert starter.wait(timeout=HANGS) == 75
    assert not any(running(pid) for pid in ranks)


def test_ranks_end_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    """Catches orphans that hold the run's lock after kill -9."""
    starter, ranks = started(tmp_path)
    starter.kill()
    starter.wait()
    wait_for(lambda: not any(running(pid) for pid in ranks))


PROCESS_RANK = """
import os, sys
from pathlib import Path
from launch.failure import leave_failure
from trainer.errors import DataError

if os.environ["RANK"] == "1" and sys.argv[1] == "fail":
    leave_failure(DataError("no such shard"))
    sys.exit(3)
"""


def test_ranks_in_processes_of_their_own_report_alike() -> None:
    """Catches a CUDA launch whose errors come out otherwise than those of forked ranks."""
    command = [sys.executable, "-c", PROCESS_RANK]
    assert run_ranks(lambda: 1, 2, "cuda", command=[*command, "pass"]) == 0
    with pytest.raises(DataError) as caught:
        run_ranks(lambda: 1, 2, "cuda", command=[*command, "fail"])
    assert str(caught.value) == "no such shard"
