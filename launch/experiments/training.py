"""A run of an experiment: trained in this process, gone on with, and not made twice."""

import json
from pathlib import Path

from trainer.recipe import Recipe


def trained(recipe: Recipe) -> Path:
    """The run's folder, trained to its last step; a finished one is left as it is.

    Raises what `trainer.loop.train` raises: StopRequested (exit code 75) goes on by the same call.
    """
    run = Path(recipe.run)
    status = run / "status.json"
    if status.is_file():
        known = json.loads(status.read_bytes())
        if known.get("state") == "done" and known.get("step") == recipe.steps:
            return run
    from trainer.loop import train

    train(recipe)
    return run
