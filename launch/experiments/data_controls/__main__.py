"""Data controls on and off: one small model on a raw corpus and on the curated one, suites beside.

    python -m launch.experiments.data_controls [--limit N] [--seeds 3] [--folder DIR]

Writes figures.json and figures.md beside this file; corpora, runs and records stay in the folder
(the cache by default), and a call that was interrupted goes on there. `--limit N` trains N steps on
a small corpus, asks few questions, and writes its figures into the folder instead.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from launch.experiments.commands import at_least_one, errors_in_one_line
from launch.experiments.data_controls.experiment import SEEDS, run_experiment
from launch.experiments.data_controls.page import page_of
from launch.experiments.tables import write_page
from trainer.files import cache_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not done, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--limit", type=at_least_one, help="steps of a small form")
    parser.add_argument("--seeds", type=at_least_one, default=SEEDS)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    name = "data-controls" if given.limit is None else f"data-controls-{given.limit}"
    folder = given.folder or cache_folder("experiments") / name
    into = Path(__file__).parent if given.limit is None else folder
    for seeds in range(1, given.seeds + 1):  # what is done before has its figures written
        figures = run_experiment(folder, tuple(range(seeds)), given.limit)
        page = write_page(page_of(figures), figures, into)
    print(page)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
