"""Train the same recipes with an earlier commit and with this working tree, and compare the curves.

    python tests/compatibility/against_commit.py COMMIT [CASE ...]

Both sides run on this machine, in this environment, each run in processes of its own: first the
corpus, then pre-training at several layouts, then what is tuned from it. Losses, gradient norms and
validation losses must be the same to the last bit; the figures of preferences within 1e-6 of 1, or
of themselves where they are larger (fp32 numbers about 36 lie 4e-6 apart), as sums may be divided
in another order. Prints a table; exit code 1 where anything differs.
"""

import argparse
import hashlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OLDER = Path(__file__).parent / "older"
EXACT = ("loss", "grad_norm", "lr", "tokens", "supervised_tokens", "eval/loss")
PREFERENCE_TOLERANCE = 1e-6

TINY = ("tiny", "steps=12", "evaluate.every=6", "checkpoint.every=6")
TUNED = (
    *("steps=6", "sequence_length=96", "batch.sequences=8", "batch.micro=4", "data.workers=0"),
    *("optimizer.lr=1e-3", "schedule.name=constant", "schedule.warmup=0"),
    *("conversations.validation=0.2", "evaluate.every=3", "evaluate.sequences=4"),
)
SFT = ("sft.yaml", *TUNED)
PREFERENCE = ("preference.yaml", *TUNED)
LORA = ("lora.rank=4", "lora.alpha=8")


@dataclass(frozen=True)
class Case:
    """A run: its name, which is its directory's too, the words after `train`, and its ranks."""

    name: str
    words: Sequence[str]
    ranks: int = 1


CASES = (
    Case("tiny", TINY),
    Case("tiny-tensor", (*TINY, "parallel.tensor=2", "parallel.sequence=true"), 2),
    Case("tiny-context", (*TINY, "parallel.context=2", "zero.stage=2"), 2),
    Case(
        "tiny-tensor-pipeline",
        (*TINY, "parallel.tensor=2", "parallel.pipeline=2", "batch.micro=2"),
        4,
    ),
    Case(
        "tiny-interleaved",
        (*TINY, "parallel.pipeline=2", "parallel.virtual=2", "batch.micro=2", "zero.stage=1"),
        2,
    ),
    Case("tiny-zero3-bf16", (*TINY, "zero.stage=3", "precision=bf16"), 2),
    Case("tiny-recompute", (*TINY, "recompute=[norms,swiglu,attention]", "kernels.loss=fused")),
    Case("sft", SFT),
    Case("sft-lora-tensor", (*SFT, *LORA, "parallel.tensor=2"), 2),
    Case("dpo", PREFERENCE),
    Case("dpo-lora-pipeline", (*PREFERENCE, *LORA, "parallel.pipeline=2", "zero.stage=1"), 2),
    Case("simpo", (*PREFERENCE, "preference.loss=simpo", "preference.beta=2.0")),
)


def main() -> int:
    """Run both sides of every chosen case; 1 where one differs or fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commit", help="what to compare this working tree with")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="none: all")
    asked = parser.parse_args()
    unknown = set(asked.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    chosen = [case for case in CASES if not asked.cases or case.name in {"tiny", *asked.cases}]
    with tempfile.TemporaryDirectory(prefix="against-") as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        unpack(asked.commit, Path(folder, "source"))
        prepare(before), prepare(after)
        wrong = 0
        print(f"{'case':22}{'steps':>6}{'seconds':>16}  greatest difference", flush=True)
        for case in chosen:
            seconds = []
            for source, side in ((Path(folder, "source"), before), (ROOT, after)):
                started = time.perf_counter()
                train(case, source, side)
                seconds.append(time.perf_counter() - started)
            found = list(differences(read(before, case), read(after, case)))
            wrong += bool(found)
            took = f"{seconds[0]:.0f} and {seconds[1]:.0f}"
            steps = len(read(after, case))
            print(f"{case.name:22}{steps:>6}{took:>16}  {verdict(found)}", flush=True)
        same = digests(before) == digests(after)
        print(f"{'corpora and sets':22}{'':22}  {'the same bytes' if same else 'OTHER BYTES'}")
    print(f"{len(chosen) - wrong} of {len(chosen)} runs are the same as at {asked.commit}")
    return int(wrong > 0 or not same)


def names() -> list[str]:
    """What a case may be called."""
    return [case.name for case in CASES]


def unpack(commit: str, folder: Path) -> None:
    """The files of a commit, without a trace in this checkout."""
    command = ["git", "-C", str(ROOT), "archive", commit]
    archive = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def prepare(side: Path) -> None:
    """A working directory with the sets and the recipes of the tuning stages."""
    (side / "raw").mkdir(parents=True)
    for name in ("talks", "pairs"):
        shutil.copy2(OLDER / "raw" / f"{name}.jsonl", side / "raw")
    for stage, name in (("sft", "talks"), ("preference", "pairs")):
        mixture = [{"corpus": f"raw/{name}.jsonl"}]
        # YAML reads JSON.
        keys = {"stage": stage, "init_from": "runs/tiny", "data": {"mixture": mixture}}
        keys |= {"run": "runs/unused", "steps": 1, "sequence_length": 96}
        (side / f"{stage}.yaml").write_text(json.dumps(keys) + "\n", encoding="utf-8")


def train(case: Case, source: Path, side: Path) -> None:
    """One run by the code in `source`, in the working directory `side`."""
    words = [*case.words, f"run=runs/{case.name}", "device=cpu", "--nproc", str(case.ranks)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LYCEUM_CACHE": str(side / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "trainer", "train", *words]
    done = subprocess.run(command, cwd=side, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{case.name} by {source} ended with {done.returncode}:\n{done.stderr}")


def read(side: Path, case: Case) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    path = side / "runs" / case.name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def differences(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> Iterator[tuple[float, str]]:
    """How far apart each figure is that should be the same, and where it stands."""
    if len(before) != len(after):
        yield math.inf, f"{len(before)} and {len(after)} steps"
    for old, new in zip(before, after, strict=False):
        if missing := old.keys() - new.keys():
            yield math.inf, f"step {old['step']}: no {', '.join(sorted(missing))}"
        for key in old.keys() & new.keys():
            exact = key in EXACT
            if not exact and not key.startswith(("preference/", "eval/")):
                continue
            one, other = old[key], new[key]
            if one == other:
                continue
            apart = math.inf if None in (one, other) else abs(one - other)
            if exact or not apart <= PREFERENCE_TOLERANCE * max(1.0, abs(one or 0.0)):
                yield apart, f"step {old['step']}: {key} {one!r}, then {other!r}"


def verdict(found: list[tuple[float, str]]) -> str:
    """The greatest of the differences, in one line."""
    if not found:
        return "none"
    apart, where = max(found)
    return f"{apart:.1e} at {where} ({len(found)} figures differ)"


def digests(side: Path) -> list[tuple[str, str, str]]:
    """Split, name and sha256 of every shard in the cache, whatever its folder is called."""
    found = (side / "cache").rglob("*.tar")
    files = [(path.parent.name, path.name, path.read_bytes()) for path in found]
    return sorted((split, name, hashlib.sha256(data).hexdigest()) for split, name, data in files)


if __name__ == "__main__":
    sys.exit(main())
