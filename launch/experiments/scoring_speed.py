"""Tokens a second of likelihoods, beside lm-eval's own Hugging Face model on the same two threads.

    make smollm2
    python -m launch.experiments.scoring_speed [--questions N] [--shots N] [--rounds N]

Multiple choice: questions of random words behind the same shots, four choices each; and the same
questions without shots, where little is shared. Both sides score the same ids, in fp32, lm-eval in
batches of 8. Rounds take turns, in one process; the ratio is that of the least CPU times.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launch.experiments.generation_speed import THREADS, exported
from trainer.evaluate.smollm2 import smollm2_checkpoint

Pairs = list[tuple[list[int], list[int]]]
Totals = list[float]


def choices(questions: int, shots: int) -> Pairs:
    """Contexts and continuations, as ids: each question four times."""
    dice = random.Random(0)

    def words(count: int) -> list[int]:
        return [dice.randrange(1000, 40000) for _ in range(count)]

    before = [token for _ in range(shots) for token in words(60)]
    pairs: Pairs = []
    for _ in range(questions):
        asked = before + words(dice.randrange(30, 60))
        pairs += [(asked, words(dice.randrange(1, 6))) for _ in range(4)]
    return pairs


def ours(checkpoint: Path) -> Callable[[Pairs], Totals]:
    """Scoring by this project, of an opened checkpoint."""
    from trainer.evaluate.opened import open_model
    from trainer.evaluate.respondent import Likelihood
    from trainer.evaluate.scoring import TokenScorer

    opened = open_model(checkpoint, 1)
    model = opened.__enter__()
    scorer = TokenScorer(model.chunks, model.recipe, model.layout, model.longest)

    def score(pairs: Pairs) -> Totals:
        assert opened is not None, "the model stays open"
        found = dict(scorer.scored(pairs))
        answers = [found[number] for number in range(len(pairs))]
        return [one.total for one in answers if isinstance(one, Likelihood)]

    return score


def theirs(folder: Path) -> Callable[[Pairs], Totals]:
    """Scoring by lm-eval's Hugging Face model, of the exported folder."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder), dtype="float32", batch_size=8, device="cpu")

    def score(pairs: Pairs) -> Totals:
        requests = [(("", ""), context, text) for context, text in pairs]
        return [total for total, _ in model._loglikelihood_tokens(requests, disable_tqdm=True)]

    return score


def main() -> None:
    """Compare both sides, with shots and without."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, number in (("questions", 24), ("shots", 5), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", THREADS)
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = arguments.checkpoint or smollm2_checkpoint()
        folder = arguments.folder or exported(checkpoint, Path(temporary) / "folder")
        sides = {"ours": ours(checkpoint), "theirs": theirs(folder)}
        for shots in (arguments.shots, 0):
            pairs = choices(arguments.questions, shots)
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            totals: dict[str, Totals] = {}
            for _ in range(arguments.rounds):
                for name, score in sides.items():
                    started = time.process_time()
                    totals[name] = score(pairs)
                    seconds[name].append(time.process_time() - started)
            apart = max(abs(a - b) for a, b in zip(totals["ours"], totals["theirs"], strict=True))
            tokens = sum(len(context) + len(text) for context, text in pairs)
            rates = {name: tokens / min(each) for name, each in seconds.items()}
            print(
                f"{shots} shots, {tokens:,} tokens: ours {rates['ours']:,.0f} a CPU second, lm-eval"
                f" {rates['theirs']:,.0f}: {rates['ours'] / rates['theirs']:.2f} times; totals at"
                f" most {apart:.1e} nats apart",
                flush=True,
            )


if __name__ == "__main__":
    main()
