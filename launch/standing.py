"""Where each rank stands: process state and stack, and which of them the others wait for."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.recovery.heartbeat import Beat
from trainer.recovery.stacks import STACK_SIGNAL, StackFrame, collective_of, line_of

_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_ANSWER_SECONDS = 2.0
_STATES = {
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "D": "waits for a disk or a file system",
    "Z": "ended",
}


@dataclass(frozen=True)
class Standing:
    """A rank that runs and makes no progress.

    `state`: of its process, in words, where that says something; `collective`: what it waits in for
    other ranks, None where it waits in none; `line`: the innermost line of our own code; `stack`:
    of all its threads.
    """

    rank: int
    pid: int
    beat: Beat
    state: str | None
    collective: str | None
    line: str
    stack: str


def process_state(pid: int) -> str:
    """The letter that /proc has for a process: T for one that is stopped; "" where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its children have taken; 0 where it is gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    ticks = sum(map(_ticks, (pid, *map(int, children))))
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def stand(
    running: Mapping[int, int], beats: Mapping[int, Beat], stacks: Mapping[int, Path]
) -> list[Standing]:
    """Where each rank stands, from the stack that it writes when it is asked, by rank.

    `running`: process ids; `stacks`: the files that the ranks write to. A rank that is stopped is
    let go on for it: it is about to be ended.
    """
    states = {rank: process_state(pid) for rank, pid in running.items()}
    before = {rank: _size(stacks[rank]) for rank in running}
    for rank, pid in running.items():
        _send(pid, STACK_SIGNAL)
        if states[rank] == "T":
            _send(pid, signal.SIGCONT)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline and any(
        _size(stacks[rank]) <= before[rank] for rank in running
    ):
        time.sleep(0.02)
    time.sleep(0.05)  # a stack is written frame by frame
    return [
        _standing(rank, pid, beats[rank], states[rank], _text(stacks[rank], before[rank]))
        for rank, pid in sorted(running.items())
    ]


def _standing(rank: int, pid: int, beat: Beat, state: str, stack: str) -> Standing:
    frames = _main_frames(stack)
    # A stopped one may have gone on for an instant, into the collective of the others.
    collective = None if state == "T" else collective_of(frames)
    return Standing(rank, pid, beat, _STATES.get(state), collective, line_of(frames), stack)


def _main_frames(stack: str) -> list[StackFrame]:
    """(file, line, function) of the main thread, innermost first: the thread last in the dump."""
    threads: list[list[StackFrame]] = [[]]
    for line in stack.splitlines():
        if found := _FRAME.match(line):
            threads[-1].append((found[1], int(found[2]), found[3]))
        elif "most recent call first" in line:
            threads.append([])
    return threads[-1]


def culprit(standings: list[Standing]) -> Standing:
    """The rank that the others wait for.

    One that is stopped, or else one that waits in no collective; of several the one that is least
    far; where all wait in collectives, one that waits in another than most.
    """
    stopped = [one for one in standings if one.state and one.state.startswith("stopped")]
    outside = [one for one in standings if one.collective is None]
    named = Counter(one.collective for one in standings)
    odd = [one for one in standings if named[one.collective] < max(named.values())]
    least = min((one.beat.step, one.beat.count) for one in standings)
    behind = [one for one in standings if (one.beat.step, one.beat.count) == least]
    fewer = behind if len(behind) < len(standings) else []
    candidates = stopped or outside or fewer or odd or standings
    return min(candidates, key=lambda one: (one.beat.step, one.beat.count, one.rank))


def told(standings: list[Standing], guilty: Standing) -> str:
    """What the others wait in for the guilty rank, in words."""
    waiting = [one for one in standings if one is not guilty and one.collective is not None]
    if not waiting:
        return "no other rank waits in a collective"
    most = Counter((one.collective, one.line) for one in waiting).most_common(1)[0][0]
    ranks = ", ".join(str(one.rank) for one in waiting)
    plural = "s" if len(waiting) > 1 else ""
    verb = "wait" if len(waiting) > 1 else "waits"
    return f"rank{plural} {ranks} {verb} for it in {most[0]}, {most[1]}"


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _text(path: Path, start: int) -> str:
    try:
        return path.read_bytes()[start:].decode(errors="replace")
    except FileNotFoundError:
        return ""
