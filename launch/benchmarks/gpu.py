"""Everything that wants a GPU, in one call: python -m launch.benchmarks.gpu OUT [PART ...] [--dry].

Parts: `kernels` (every kernel's tests, which run on CUDA where there is one), `bench` (`lyceum
bench kernels`), `curve` (five steps in fp32 on the GPU beside the CPU's), `train` (`lyceum bench
train` of 162M parameters in bf16, on the machine's own documentation). Ten minutes in all at most.
Each is a process of its own with a time limit: one that fails or hangs costs no other its result.
OUT/summary.json is renewed after each part. `--dry` runs every part at its smallest on any machine.
Never run on a GPU yet.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

CURVE_TOLERANCE = 1e-4
"""Nats over five steps: sums in another order, grown by five updates; wrong kernels differ more."""

_CURVE_STEPS = 5


@dataclass(frozen=True)
class Part:
    """One process: what it runs, for how long at most, and what that leaves in OUT."""

    name: str
    command: list[str]
    seconds: float
    leaves: list[str]


@dataclass(frozen=True)
class Outcome:
    """How a part ended; `exit_code` is null where it ran out of time."""

    part: str
    command: str
    exit_code: int | None
    seconds: float
    leaves: list[str]
    tail: list[str]


def parts_of(out: Path, dry: bool) -> list[Part]:
    """All parts; at their smallest where `dry`."""
    lyceum = [sys.executable, "-m", "trainer"]
    tests = ["tests/kernels/test_glu.py"] if dry else ["tests/kernels"]
    pytest = [sys.executable, "-m", "pytest", *tests, "-p", "no:cacheprovider"]
    bench = ["glu"] if dry else []
    corpus = ["corpus.source=embedded", "corpus.files=[]", "corpus.packages=[stdlib]"]
    sizes = ["batch.sequences=32", "corpus.vocab=4096"]
    recipe = ["tiny"] if dry else ["small", *corpus, *sizes]
    pairs = ["--pairs", "1"]
    curve = [sys.executable, "-m", "launch.benchmarks.gpu", str(out), "--compare"]
    return [
        Part("kernels", [*pytest, f"--junitxml={out / 'kernels.xml'}"], 180, ["kernels.xml"]),
        Part(
            "bench",
            [
                *lyceum,
                *("bench", "kernels", *bench, "--sizes", "model"),
                *("--json", str(out / "bench.json"), "--plots", str(out / "plots")),
            ],
            180,
            ["bench.json"],
        ),
        Part("curve", [*curve, "cpu", "cpu" if dry else "cuda"], 120, ["curve.json"]),
        Part(
            "train",
            [*lyceum, "bench", "train", *recipe, *pairs, "--json", str(out / "train.json")],
            120,
            ["train.json"],
        ),
    ]


def run_parts(parts: Sequence[Part], out: Path) -> list[Outcome]:
    """Run one after the other; OUT/summary.json holds those that ended."""
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for part in parts:
        outcome = _run(part, out)
        outcomes.append(outcome)
        summary = {"outcomes": [asdict(one) for one in outcomes], "environment": _environment()}
        (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        ended = "ran out of time" if outcome.exit_code is None else f"exit {outcome.exit_code}"
        print(f"{part.name}: {ended} after {outcome.seconds:.0f} s", flush=True)
    return outcomes


def _run(part: Part, out: Path) -> Outcome:
    started = time.monotonic()
    log = out / f"{part.name}.log"
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            part.command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(part.seconds)
        if code is None:
            # Its ranks and workers too: they would hold the GPU.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return Outcome(
        part=part.name,
        command=" ".join(part.command),
        exit_code=code,
        seconds=time.monotonic() - started,
        leaves=[name for name in part.leaves if (out / name).exists()],
        tail=lines[-20:],
    )


def _environment() -> dict[str, object]:
    """Hardware and versions, from the run's own description; asked in a process of its own."""
    program = (
        "import json; from trainer.observe.environment import environment; "
        "print(json.dumps(environment()))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if answer.returncode != 0:
        return {"unknown": answer.stderr.splitlines()[-1:]}
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def compare_curves(out: Path, devices: Sequence[str]) -> float:
    """Train tiny in fp32 on each device; the largest difference of a loss, also in curve.json."""
    losses = []
    for number, device in enumerate(devices):
        run = out / f"curve-{number}-{device}"
        keys = [f"run={run}", f"device={device}", f"steps={_CURVE_STEPS}", "resume=auto"]
        quiet = ["evaluate.every=0", "checkpoint.every=0", "checkpoint.save_final=false"]
        command = [sys.executable, "-m", "trainer", "train", "tiny", *keys, *quiet]
        subprocess.run([*command, "schedule.warmup=1"], check=True)
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    difference = max(abs(a - b) for a, b in zip(*losses, strict=True))
    content = {
        "devices": list(devices),
        "losses": losses,
        "largest_difference": difference,
        "tolerance": CURVE_TOLERANCE,
    }
    (out / "curve.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return difference


def main(words: Sequence[str] | None = None) -> int:
    """0 where every chosen part ended well, 1 where one did not."""
    parser = argparse.ArgumentParser(prog="python -m launch.benchmarks.gpu")
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--dry", action="store_true", help="every part at its smallest")
    parser.add_argument("--compare", nargs=2, metavar="DEVICE", help=argparse.SUPPRESS)
    call = parser.parse_args(words)
    if call.compare:
        return int(compare_curves(call.out, call.compare) > CURVE_TOLERANCE)
    known = parts_of(call.out, call.dry)
    names = [part.name for part in known]
    unknown = [name for name in call.parts if name not in names]
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}; there are {', '.join(names)}")
    chosen = [part for part in known if not call.parts or part.name in call.parts]
    outcomes = run_parts(chosen, call.out)
    return int(any(outcome.exit_code != 0 for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
