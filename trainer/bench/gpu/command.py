"""Everything that wants a GPU, in one call: python -m trainer.bench.gpu.command OUT [PART ...].

The parts stand in `parts`; README.md beside this says what each is. Each is a process of its own
with a share of `--minutes`, and may use what earlier ones left of theirs: one that fails, hangs or
lacks a wheel costs no other its result. OUT/summary.json, REPORT.md, all.json and plots.zip are
renewed after each part. `--dry` runs each at its smallest, on the CPU. Never run on a GPU yet.
"""

import argparse
import contextlib
import gzip
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainer.bench.gpu.machine import Machine, describe_machine
from trainer.bench.gpu.outcome import Outcome, reason_of
from trainer.bench.gpu.parts import SIZES, Part, parts_of, why_not
from trainer.bench.gpu.report import write_reports

MOST_BYTES = 15 * 2**20
"""Of a file that is brought back from a machine: a larger one is packed, or left out."""

OVERHEAD_SECONDS = 10
"""For describing the machine, and for reports."""


def run_parts(
    parts: Sequence[Part], out: Path, machine: Machine, dry: bool, spare: float = 0.0
) -> list[Outcome]:
    """Run one after the other; what they left and how they ended is in OUT after each.

    `spare`: seconds beyond the parts' own; each may take from them as much as its own again.
    """
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for part in parts:
        reason = why_not(part, machine, dry)
        if reason is not None:
            command = shlex.join(part.command)
            outcome = Outcome(part.name, command, "not run", reason, None, 0.0, 0.0, [], [])
            spare += part.seconds
        else:
            allowed = part.seconds + min(max(spare, 0.0), part.seconds)
            outcome = _run(part, out, allowed, dry)
            spare += part.seconds - outcome.seconds
        outcomes.append(outcome)
        write_reports(out, machine, parts, outcomes, dry)
        because = f": {outcome.reason}" if outcome.reason else ""
        print(f"{part.name}: {outcome.state} after {outcome.seconds:.0f} s{because}", flush=True)
    return outcomes


def _run(part: Part, out: Path, allowed: float, dry: bool) -> Outcome:
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
    state = {None: "out of time", 0: "done"}.get(code, "failed")
    return Outcome(
        part=part.name,
        command=shlex.join(part.command),
        state=state,  # type: ignore[arg-type]
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


def main(words: Sequence[str] | None = None) -> int:
    """0 where every chosen part ended well, 1 where one did not."""
    given = list(sys.argv[1:] if words is None else words)
    parser = argparse.ArgumentParser(prog="python -m trainer.bench.gpu.command")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("parts", nargs="*", metavar="PART", help="none: all")
    parser.add_argument("--dry", action="store_true", help="every part at its smallest, on the CPU")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="in all, at most")
    parser.add_argument(
        "--sizes", default=",".join(SIZES), metavar="A,B", help=f"of {', '.join(SIZES)}"
    )
    call = parser.parse_intermixed_args(given)
    sizes = call.sizes.split(",")
    if wrong := [size for size in sizes if size not in SIZES]:
        parser.error(f"--sizes: {wrong[0]!r} is unknown; there are {', '.join(SIZES)}")
    known = parts_of(call.out, call.dry, sizes)
    names = [part.name for part in known]
    if wrong := [name for name in call.parts if name not in names]:
        parser.error(f"no part is called {wrong[0]!r}; there are {', '.join(names)}")
    chosen = [part for part in known if not call.parts or part.name in call.parts]
    machine = describe_machine(shlex.join(["python", "-m", "trainer.bench.gpu.command", *given]))
    seconds, wanted = call.minutes * 60 - OVERHEAD_SECONDS, sum(part.seconds for part in chosen)
    factor = min(1.0, max(seconds, 0.0) / wanted)
    chosen = [replace(part, seconds=part.seconds * factor) for part in chosen]
    outcomes = run_parts(chosen, call.out, machine, call.dry, spare=seconds - factor * wanted)
    print(f"written: {call.out / 'REPORT.md'}")
    return int(any(outcome.state != "done" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
