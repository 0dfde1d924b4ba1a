"""The bias gap with counterfactual data and without: of a small model, and of SmolLM2 under a cure.

    python -m launch.experiments.bias [--limit N] [--seeds 3] [--cures 1] [--questions 48]
        [--folder DIR]

Writes figures.json and figures.md beside this file; texts, runs and records stay in the folder (the
cache by default), and a call that was interrupted goes on there. `--cures`: seeds of SmolLM2, 0
leaves it out, as where it is not in the cache (`make smollm2`); `--questions`: how many of things
that exist and do not it is asked, whose answers take longest. `--limit N` trains the small model
for N steps on few texts, without SmolLM2, and writes into the folder instead.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.experiments.bias.cure import CureSize, run_cure
from launch.experiments.bias.page import page_of
from launch.experiments.bias.small import documents_text, held_out_text, run_small_models
from launch.experiments.commands import at_least_one, errors_in_one_line, zero_or_more
from launch.experiments.tables import write_page
from trainer.errors import DataError, shown
from trainer.evaluate.smollm2 import smollm2_checkpoint
from trainer.files import cache_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not done, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--limit", type=at_least_one, help="steps of a small form")
    parser.add_argument("--seeds", type=at_least_one, default=3)
    parser.add_argument("--cures", type=zero_or_more, default=1)
    parser.add_argument("--questions", type=at_least_one, default=CureSize.questions)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    name = "bias" if given.limit is None else f"bias-{given.limit}"
    folder = (given.folder or cache_folder("experiments") / name).absolute()
    into = Path(__file__).parent if given.limit is None else folder
    figures: dict[str, Any] = {
        "command": " ".join(["python -m launch.experiments.bias", *_said(given)]),
        "small": run_small_models(folder, range(given.seeds), given.limit),
        "smollm2": None,
    }
    if given.cures and given.limit is None:
        try:
            base = smollm2_checkpoint()
        except DataError as error:
            figures["smollm2_left_out"] = shown(error)
        else:
            size, text = CureSize(questions=given.questions), held_out_text(folder)
            figures["smollm2"] = run_cure(
                folder / "smollm2", text, range(given.cures), size, base, documents_text(folder)
            )
    # Once, at the end: a page of one half would stand over the whole one of an earlier call.
    print(write_page(page_of(figures), figures, into))


def _said(given: argparse.Namespace) -> list[str]:
    """What was given, but for the folder, as it is written on the command line."""
    usual = {"limit": None, "seeds": 3, "cures": 1, "questions": CureSize.questions}
    return [
        f"--{name} {getattr(given, name)}" for name in usual if getattr(given, name) != usual[name]
    ]


if __name__ == "__main__":
    with errors_in_one_line():
        main()
