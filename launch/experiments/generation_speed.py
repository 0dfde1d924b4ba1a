"""CPU time and peak memory of greedy generation, beside transformers' on the same two threads.

    make smollm2
    python -m launch.experiments.generation_speed [--rounds N] [--rows N] [--prompt N] [--new N]

Both write the same number of tokens behind the same random prompts, in fp32, no end of a text
ending them. Rounds take turns, each side in a process of its own, which generates once to warm up
and once for the count; the ratio is that of the least CPU times, and of the peak resident sizes.
Our side runs with OMP_WAIT_POLICY=PASSIVE, as the command `lyceum` does, whose threads sleep while
they wait; "spinning" is our side without it, as transformers' is.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from trainer.evaluate.smollm2 import smollm2_checkpoint

THREADS = "2"
Write = Callable[[list[list[int]], int], list[list[int]]]


def measure(side: str, checkpoint: Path, folder: Path, prompts: list[list[int]], new: int) -> None:
    """Print what one side needs, and what it wrote, as JSON."""
    write = theirs(folder) if side == "theirs" else ours(checkpoint)
    write(prompts, 8)
    before, started = time.process_time(), time.perf_counter()
    texts = write(prompts, new)
    print(
        json.dumps(
            {
                "cpu": time.process_time() - before,
                "wall": time.perf_counter() - started,
                "peak": getrusage(RUSAGE_SELF).ru_maxrss * 1024,
                "texts": texts,
            }
        )
    )


def ours(checkpoint: Path) -> Write:
    """Generation by this project, of an opened checkpoint."""
    from trainer.evaluate.generate import Generator, Vocabulary
    from trainer.evaluate.opened import open_model
    from trainer.evaluate.sampling import Sampling

    opened = open_model(checkpoint, 1)
    model = opened.__enter__()
    unending = Vocabulary(model.tokenizer.size, (), frozenset(), 0)
    generator = Generator(model.chunks, model.recipe, model.layout, unending, model.longest)

    def write(prompts: list[list[int]], new: int) -> list[list[int]]:
        assert opened is not None, "the model stays open"
        greedy = Sampling(tokens=new, temperature=0.0)
        return [one.tokens for one in generator.continued(prompts, greedy, len(prompts))]

    return write


def theirs(folder: Path) -> Write:
    """Generation by transformers, of the exported folder."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    def write(prompts: list[list[int]], new: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new
        )
        texts: list[list[int]] = made[:, ids.shape[1] :].tolist()
        return texts

    return write


def main() -> None:
    """Compare both sides, or measure the one that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, number in (("rounds", 3), ("rows", 8), ("prompt", 200), ("new", 64)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--side")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    dice = random.Random(0)
    prompts = [
        [dice.randrange(1000, 40000) for _ in range(arguments.prompt)]
        for _ in range(arguments.rows)
    ]
    if arguments.side:
        measure(arguments.side, arguments.checkpoint, arguments.folder, prompts, arguments.new)
        return
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = arguments.checkpoint or smollm2_checkpoint()
        folder = arguments.folder or exported(checkpoint, Path(temporary) / "folder")
        found: dict[str, list[dict[str, float]]] = {"ours": [], "spinning": [], "theirs": []}
        for _ in range(arguments.rounds):
            for side, rounds in found.items():
                rounds.append(run(side, checkpoint, folder))
    for side, rounds in found.items():
        cpu = ", ".join(f"{one['cpu']:.2f}" for one in rounds)
        print(f"{side}: CPU seconds {cpu}; peak {rounds[0]['peak'] / 2**20:.0f} MiB")
    for name in ("cpu", "wall", "peak"):
        least = {side: min(each[name] for each in rounds) for side, rounds in found.items()}
        one, other = (least[side] / least["theirs"] for side in ("ours", "spinning"))
        print(f"{name}: ours / theirs = {one:.3f}, spinning {other:.3f}")
    same = all(one[0]["texts"] == found["theirs"][0]["texts"] for one in found.values())
    print(f"the texts are {'the same' if same else 'different'}")


def exported(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint as a Hugging Face folder."""
    command = [sys.executable, "-m", "trainer", "export", str(checkpoint), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def run(side: str, checkpoint: Path, folder: Path) -> dict[str, float]:
    """One side's measurement, in a process of its own with this one's arguments."""
    command = [sys.executable, "-m", "launch.experiments.generation_speed", *sys.argv[1:]]
    command += ["--side", side, "--checkpoint", str(checkpoint), "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS}
    environment.pop("OMP_WAIT_POLICY", None)
    if side == "ours":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    answer: dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
