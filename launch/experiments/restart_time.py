"""From a kill to the next step of a two-rank tiny run: started cold, and restarted in place.

    python -m launch.experiments.restart_time [--against CHECKOUT] [--rounds N]

In turn: every process of a run is killed and the same command given again, with this working tree
and with another checkout of the project (`git worktree add ../before eb50acc`); and one rank is
killed where `recovery.restarts` lets the launcher go on. Prints the seconds until the first new
line of metrics.jsonl, and the ratios of the medians.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEYS = (
    *("steps=100000", "evaluate.every=0", "checkpoint.every=2", "observe.tensorboard=false"),
    *("zero.stage=1", "schedule.name=constant"),
)


class TimedRun:
    """A two-rank run of `tiny` by one checkout's command; it runs while it is measured alone."""

    def __init__(self, checkout: Path, folder: Path, *more: str) -> None:
        self._checkout, self._more = checkout, more
        self._run = folder / f"run-{checkout.name}-{len(more)}"
        self._metrics = self._run / "metrics.jsonl"

    def _start(self) -> "subprocess.Popen[bytes]":
        words = ["train", "tiny", f"run={self._run}", *KEYS, *self._more, "--nproc", "2"]
        environment = {**os.environ, "PYTHONPATH": str(self._checkout), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "trainer", *words],
            cwd=self._checkout,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _reach(self, process: "subprocess.Popen[bytes]", lines: int) -> None:
        while not self._metrics.exists() or self._metrics.read_bytes().count(b"\n") < lines:
            if process.poll() is not None:
                raise SystemExit(f"{self._run} ended with {process.returncode}")
            time.sleep(0.005)

    def cold(self) -> float:
        """Seconds from the end of all its processes to the next step of the command given again."""
        process = self._begun()
        process.kill()
        process.wait()
        self._metrics.unlink()
        began = time.perf_counter()
        process = self._start()
        self._reach(process, 1)
        seconds = time.perf_counter() - began
        process.kill()
        process.wait()
        return seconds

    def in_place(self) -> float:
        """Seconds from the end of one rank to the next step."""
        process = self._begun()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self._metrics.unlink()
        began = time.perf_counter()
        os.kill(int(children[1]), signal.SIGKILL)
        self._reach(process, 1)
        seconds = time.perf_counter() - began
        process.kill()
        process.wait()
        return seconds

    def _begun(self) -> "subprocess.Popen[bytes]":
        """The run, some steps and a checkpoint on its way."""
        self._metrics.unlink(missing_ok=True)
        process = self._start()
        self._reach(process, 6)
        return process


def main() -> None:
    """Measure in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        here, again = TimedRun(ROOT, folder), TimedRun(ROOT, folder, "recovery.restarts=1")
        measured = {"cold": here.cold, "in place": again.in_place}
        if given.against:
            measured["cold, before"] = TimedRun(given.against.resolve(), folder).cold
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(given.rounds):
            for name, measure in measured.items():
                seconds[name].append(measure())
                print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
        medians = {name: statistics.median(found) for name, found in seconds.items()}
        for name, median in medians.items():
            print(f"median, {name}: {median:.2f} s, {median / medians['cold']:.2f} of cold")
        if given.against:
            print(f"cold, of before: {medians['cold'] / medians['cold, before']:.2f}")


if __name__ == "__main__":
    main()
