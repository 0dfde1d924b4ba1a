"""One peer in this process: python -m trainer.bench.peers NAME REQUEST ANSWER, both JSON files."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.bench.clock import (
    WARMUP_STEPS,
    StepClock,
    peak_memory_gib,
    reset_peak_memory,
    timing_of,
)
from trainer.bench.peers import peer
from trainer.bench.peers.peer import Peer
from trainer.bench.peers.training import Training
from trainer.bench.tokens import first_batches, on_device, supervised
from trainer.parallel.join import choose_device
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe
from trainer.sources import open_sources
from trainer.stages.learning_rate import learning_rate

_SAME_SIZE = 1e-3
"""How much a peer's number of parameters may differ from ours."""


def measured(one: Peer, recipe: Recipe, device: torch.device, steps: int) -> dict[str, Any]:
    """Train the peer on the recipe's first batches, which lie on the device beforehand.

    `recipe.model.vocab` is known. AssertionError for a model of another size than the recipe's.
    """
    assert recipe.model.vocab is not None
    rows = first_batches(recipe, open_sources(recipe), WARMUP_STEPS + steps)
    tokens = [supervised(batch) for batch in rows]
    reset_peak_memory(device)
    built = one.build(recipe, device)
    training = Training(built, recipe)
    expected = parameter_count(recipe.model, recipe.model.vocab)["total"]
    difference = training.parameters / expected - 1
    assert abs(difference) < _SAME_SIZE, f"{training.parameters} parameters, not {expected}"
    on = [on_device(batch, device) for batch in rows]
    clock, losses = StepClock(device), []
    clock.mark()
    for step, batch in enumerate(on, start=1):
        losses.append(training.step(batch, learning_rate(recipe, step)))
        clock.mark()
    seconds, memory = clock.seconds(), peak_memory_gib(device)
    timing = timing_of(recipe, recipe.model.vocab, device, seconds, tokens, memory)
    return {
        "timing": dataclasses.asdict(timing),
        "given": one.given | built.given | training.given,
        "parameters": training.parameters,
        "first_loss": float(losses[0]),
        "last_loss": float(losses[-1]),
    }


def main(words: Sequence[str]) -> int:
    """Write what was measured, or why not: {"problem": a line, "out_of_memory": whether}."""
    name, request_file, answer_file = words
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    recipe = Recipe.from_keys(request["recipe"])
    try:
        answer = measured(peer(name), recipe, choose_device(recipe.device), request["steps"])
    except torch.OutOfMemoryError as error:
        answer = {"problem": str(error).splitlines()[0], "out_of_memory": True}
    except ImportError as error:
        answer = {"problem": f"it cannot be imported: {error}", "out_of_memory": False}
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
