"""Run the parts one after the other, each in a process of its own with its share of the time.

One that fails, hangs or lacks a package costs no other its result, and the reports are renewed
after each.
"""

import contextlib
import gzip
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.bench.gpu.machine import Machine
from trainer.bench.gpu.parts import Part, why_not
from trainer.bench.gpu.report import write_reports
from trainer.bench.gpu.result import PartResult, reason_of

MOST_BYTES = 15 * 2**20
"""Of a file that is brought back from a machine: a larger one is packed, or left out."""


CALL_SECONDS = 10.0
"""Of a call for itself at least: describing the machine."""
REPORT_SECONDS = 1.0
"""Of a part beside its own: renewing the reports."""


def run_parts(
    parts: Sequence[Part],
    out: Path,
    machine: Machine,
    dry: bool,
    seconds: float,
    earlier: Sequence[PartResult] = (),
    *,
    clock: Callable[[], float] = time.monotonic,
    run: Callable[[Part, Path, float, bool], PartResult] | None = None,
) -> list[PartResult]:
    """What became of each part, in `seconds` all together; those with an `earlier` result are done.

    `clock` and `run` (a part, for so many seconds) are given by tests.
    """
    out.mkdir(parents=True, exist_ok=True)
    deadline = clock() + seconds
    results = list(earlier)
    done = {result.part: result.call for result in earlier}
    waiting = [part for part in parts if part.name not in done]
    reasons = {part.name: why_not(part, machine, dry) for part in waiting}
    reserved = reserved_parts([part for part in waiting if not reasons[part.name]], seconds)
    for part in parts:
        if part.name in done:
            print(f"{part.name}: skipped, as it is done ({done[part.name]})", flush=True)
            continue
        reserved = [other for other in reserved if other is not part]
        left = deadline - clock()
        allowed = allowed_seconds(part, left, reserved, dry)
        command = shlex.join(part.command)
        if (reason := reasons[part.name]) is not None:
            result = PartResult(part.name, command, "not run", reason)
        elif allowed is None:
            free = f"needs {part.seconds:.0f} s whole, more than this call has for it"
            result = PartResult(part.name, command, "left out", free)
        else:
            result = (run or run_part)(part, out, allowed, dry)
        results.append(result)
        write_reports(out, machine, parts, results, dry)
        because = f": {result.reason}" if result.reason else ""
        print(f"{part.name}: {result.state} after {result.seconds:.0f} s{because}", flush=True)
    return [result for result in results if result not in earlier]


def cost(parts: Sequence[Part]) -> float:
    """The seconds that these parts take together."""
    return sum(part.seconds + REPORT_SECONDS for part in parts)


def reserved_parts(parts: Sequence[Part], seconds: float) -> list[Part]:
    """The longest beginning of the list that fits; no other part takes of its time."""
    fitting = [n for n in range(len(parts) + 1) if cost(parts[:n]) <= seconds]
    return list(parts[: max(fitting, default=0)])


def allowed_seconds(part: Part, left: float, later: Sequence[Part], dry: bool) -> float | None:
    """How long the part may run in what is left of the call, without the time of `later` ones.

    Its own seconds, and as much again where that is free; where `dry`, whose parts were sized for a
    GPU, all that is free. None where it would be cut short, and is better left to another call.
    """
    free = left - cost(later) - REPORT_SECONDS
    if free < part.seconds:
        return None
    return free if dry else min(free, 2 * part.seconds)


def run_part(part: Part, out: Path, allowed: float, dry: bool) -> PartResult:
    """Run it for `allowed` seconds at most; its output is OUT/PART.log."""
    for name in part.leaves:
        (out / name).unlink(missing_ok=True)  # of an earlier call
    started = time.monotonic()
    log = out / f"{part.name}.log"
    environment = {**os.environ, **part.environment}
    if dry:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            part.command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(allowed)
        finally:
            # Its ranks and workers too, however it ended: they would hold the GPU.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    lines += [note for name in part.leaves if (note := _pack(out / name))]
    return PartResult(
        part=part.name,
        command=shlex.join(part.command),
        state="out of time" if code is None else "failed" if code else "done",
        reason=reason_of(code, allowed, lines),
        exit_code=code,
        seconds=time.monotonic() - started,
        allowed_seconds=allowed,
        leaves=[name for name in part.leaves if (out / name).exists()],
        tail=lines[-20:],
    )


def _pack(path: Path) -> str | None:
    """Make a file small enough to be brought back; what was done, where something was."""
    if not path.exists() or path.stat().st_size <= MOST_BYTES:
        return None
    if path.suffix != ".gz":
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes(), 6))
        if packed.stat().st_size <= MOST_BYTES:
            path.unlink()
            return f"{path.name} is packed as {packed.name}"
        packed.unlink()
    size = path.stat().st_size / 2**20
    path.unlink()
    return f"{path.name} is left out: {size:.0f} MiB are more than {MOST_BYTES / 2**20:.0f}"
