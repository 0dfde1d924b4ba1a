"""Five steps of the tiny recipe in fp32 on two devices: python -m trainer.bench.gpu.curve A B FILE.

Both runs read the same made tokens, so that nothing has to be curated.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trainer.files import write_output

TOLERANCE = 1e-4
"""Nats over five steps: sums in another order, grown by five updates; wrong kernels differ more."""

STEPS = 5
VOCAB = 2048
"""Tiny's own."""


def compare_curves(file: Path, devices: Sequence[str]) -> float:
    """Train tiny in fp32 on each device; the largest difference of a loss, also in `file`."""
    from trainer.bench.tokens import made_corpus

    losses = []
    with tempfile.TemporaryDirectory(prefix="lyceum-curve-") as folder:
        corpus = made_corpus(Path(folder) / "corpus", 128, VOCAB, rows=8 * STEPS)
        for number, device in enumerate(devices):
            run = Path(folder) / f"{number}-{device}"
            subprocess.run(train_words(run, device, corpus), check=True)
            lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            losses.append([json.loads(line)["loss"] for line in lines])
    differences = [abs(a - b) for a, b in zip(*losses, strict=True)]
    # The largest of NaN and 0 may be 0.
    difference = math.nan if any(map(math.isnan, differences)) else max(differences)
    content = {
        "recipe": "tiny",
        "devices": list(devices),
        "losses": losses,
        "largest_difference": difference,
        "tolerance": TOLERANCE,
    }
    write_output(file, content)
    return difference


def train_words(run: Path, device: str, corpus: Path) -> list[str]:
    """The command that trains these steps of tiny on the device."""
    keys = [f"run={run}", f"device={device}", f"steps={STEPS}", "schedule.warmup=1"]
    made = ["corpus=null", f"data.mixture=[{{corpus: {corpus}}}]"]
    quiet = ["evaluate.every=0", "checkpoint.every=0", "checkpoint.save_final=false"]
    # Without DeepSpeed: the other ways through a step are held to one curve elsewhere (`groups`).
    words = [*keys, *made, *quiet, "zero.stage=0", "observe.tensorboard=false"]
    return [sys.executable, "-m", "trainer", "train", "tiny", *words]


def main(words: Sequence[str]) -> int:
    """0 where the curves of both devices agree within TOLERANCE; the last word is the file."""
    *devices, file = words
    difference = compare_curves(Path(file), devices)
    print(f"the losses differ by {difference:.3g} at most, allowed is {TOLERANCE:g}")
    return int(not difference <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
