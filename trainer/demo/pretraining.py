"""The demo's first stage: its corpus, the trigram baseline, and what other layouts give."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.demo.ranks import in_another_process
from trainer.demo.recipes import REPEATED_STEPS
from trainer.recipe import Recipe


@dataclass(frozen=True)
class Scores:
    """Losses in nats a token, of model, trigram and uniform guess, on the same validation tokens.

    `tokens_read`: trained on; `tokens_predicted`: of the validation split.
    """

    model: float
    trigram: float
    uniform: float
    tokens_read: int
    tokens_predicted: int


def build_corpus(recipe: Recipe) -> Path:
    """Build the recipe's corpus unless it exists; returns its folder."""
    from trainer.sources import ensure_corpus

    def build() -> None:
        ensure_corpus(recipe)

    in_another_process(build)
    return ensure_corpus(recipe)[0]


def compare_with_trigram(recipe: Recipe) -> Scores:
    """The model's last validation loss, and a trigram's that was fitted on the same tokens."""
    import numpy as np

    from trainer.data.loader import validation_batches
    from trainer.demo.trigram import Trigram, trigrams_of_rows
    from trainer.sources import open_sources
    from trainer.trace import consumed_rows

    sources = open_sources(recipe)
    size, arguments = sources.tokenizer.size, sources.stream_arguments(recipe)
    rows = consumed_rows(arguments, recipe.batch.sequences, recipe.steps)
    read = [trigrams_of_rows(*row, size) for row in rows]
    held_out = [
        trigrams_of_rows(batch.tokens, batch.labels, batch.position_ids, size)
        for batch in validation_batches(arguments, recipe.evaluate.sequences, 1, range(1))
    ]
    trigram = Trigram.fit(np.concatenate(read), size)
    return Scores(
        model=last_figure(Path(recipe.run), "eval/loss"),
        trigram=trigram.nats_per_token(np.concatenate(held_out)),
        uniform=float(np.log(size)),
        tokens_read=sum(len(part) for part in read),
        tokens_predicted=sum(len(part) for part in held_out),
    )


def largest_difference(run: Path, other: Path) -> float:
    """The largest difference in nats between two runs' losses over the repeated steps."""
    losses = {record["step"]: record["loss"] for record in _metrics(run)}
    repeated = {record["step"]: record["loss"] for record in _metrics(other)}
    assert len(repeated) == REPEATED_STEPS, "the repeated run starts at the saved step"
    return max(abs(losses[step] - loss) for step, loss in repeated.items())


def last_figure(run: Path, name: str) -> float:
    """The last value of the metric `name` in a run's metrics.jsonl."""
    return float([record[name] for record in _metrics(run) if name in record][-1])


def _metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
