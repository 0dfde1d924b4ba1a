import os
import signal
from pathlib import Path

from trainer.recovery import Heartbeat
from trainer.recovery.heartbeat import make_heartbeat_file, read_heartbeat
from trainer.recovery.stacks import STACK_FILE, STACK_SIGNAL, write_stack_when_asked


def test_a_beat_is_seen_by_another_process_and_outlives_its_own(tmp_path: Path) -> None:
    """Catches a rank of which nothing is known once it was killed."""
    path = tmp_path / "heartbeat"
    make_heartbeat_file(path)
    assert read_heartbeat(path).where == "in its start"
    pid = os.fork()
    if pid == 0:
        heartbeat = Heartbeat(path)
        heartbeat.beat("update", 41)
        heartbeat.beat("forward and backward", 42)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    beat = read_heartbeat(path)
    assert (beat.count, beat.step, beat.phase) == (2, 42, "forward and backward")
    assert beat.where == "in forward and backward of step 42"


def test_where_nobody_looks_a_beat_is_kept_to_itself() -> None:
    """Catches a run in one process that needs a launcher to begin."""
    heartbeat = Heartbeat()
    heartbeat.beat("data", 3)
    heartbeat.again()
    assert (heartbeat.phase, heartbeat.step) == ("data", 3)


def test_a_rank_that_hangs_outside_of_python_writes_its_stack(tmp_path: Path) -> None:
    """Catches a stack that waits for the interpreter, which waits for what hangs."""
    path, (ready, tell) = tmp_path / "stack", os.pipe()
    pid = os.fork()
    if pid == 0:
        os.environ[STACK_FILE] = str(path)
        write_stack_when_asked()
        os.write(tell, b"1")
        os.read(os.pipe()[0], 1)  # for ever, in C
    os.read(ready, 1)
    os.kill(pid, STACK_SIGNAL)
    while b"test_heartbeat.py" not in (path.read_bytes() if path.exists() else b""):
        os.sched_yield()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
