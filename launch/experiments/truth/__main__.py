"""The experiment on truth: SmolLM2, cured step by step, asked what it was not trained on.

    make smollm2
    python -m launch.experiments.truth [--seeds 0 1 2] [--limit N] [--into DIR]

Trains what is not there yet, asks what was not asked yet, and writes figures.json, table.md and
trade_off.svg into DIR (without --limit and --into: beside this file). Runs and records stay below
the cache. With --limit a few steps and N items a suite, to see that all of it works.
"""

import argparse
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launch.experiments.commands import at_least_one, errors_in_one_line
from launch.experiments.truth.chain import STEPS, ChainModel, built_chain
from launch.experiments.truth.measuring import HELD_OUT, SUITES, measured
from launch.experiments.truth.replay import verified_requests
from launch.experiments.truth.results import ModelRecords, Records, write_results
from trainer.evaluate.smollm2 import smollm2_checkpoint
from trainer.files import cache_folder, write_whole
from trainer.questions.bank import bank_questions
from trainer.questions.writing import question_lines

HERE = Path(__file__).parent
BASE = "base"
SMOKE_STEPS = 2
VERSIONS = ("torch", "megatron-core", "deepspeed")


def run(
    seeds: Sequence[int],
    limit: int | None,
    into: Path,
    work: Path,
    model: Path,
    overrides: Mapping[str, Sequence[str]],
    told: Mapping[str, str],
) -> None:
    """Train, measure, and write the results; `overrides`: keys of each step's recipe; `told`: what
    the results say of the model and the command.
    """
    started = time.monotonic()
    base = ModelRecords(BASE, [measured(model, work / "records" / BASE, list(SUITES), limit)])
    by_label: dict[str, list[tuple[ChainModel, Records]]] = {}
    for seed in seeds:
        for one in built_chain(model, work, seed, overrides, limit):
            names = [HELD_OUT.name] if one.drawn_only else list(SUITES)
            folder = work / "records" / f"seed-{seed}-{one.checkpoint.name}"
            by_label.setdefault(one.label, []).append(
                (one, measured(one.checkpoint, folder, names, limit))
            )
        minutes = (time.monotonic() - started) / 60
        print(f"seed {seed}: done after {minutes:.0f} minutes of this command", flush=True)
        models = [
            ModelRecords(label, [records for _, records in found], found[0][0].share)
            for label, found in by_label.items()
        ]
        into.mkdir(parents=True, exist_ok=True)
        done = seeds[: seeds.index(seed) + 1]
        write_results(base, models, into, {**told, **_notes(done, minutes)})


def _shortened(work: Path, limit: int, questions: Path | None) -> dict[str, list[str]]:
    """Keys of each step's recipe: a few steps over `questions`, or the bank's first ones."""
    if questions is None:
        questions = work / "questions.jsonl"
        bank = bank_questions()
        few = [one for one in bank if one.answerable][: 4 * limit]
        few += [one for one in bank if not one.answerable][: 2 * limit]
        work.mkdir(parents=True, exist_ok=True)
        write_whole(questions, question_lines(few))
    named = {
        "refusals": "conversations.refusals.questions",
        "factuality": "conversations.factuality.questions",
        "reinforce": "reinforce.questions",
    }
    beside = {"reinforce": f",{verified_requests(work / 'replayed')}"}
    return {
        step: [f"steps={SMOKE_STEPS}", f"{key}=[{questions}{beside.get(step, '')}]"]
        for step, key in named.items()
    }


def _told(given: argparse.Namespace) -> dict[str, str]:
    """The command, without where files lie, and whose figures they are."""
    words = ["python -m launch.experiments.truth --seeds", *map(str, given.seeds)]
    words += [] if given.limit is None else ["--limit", str(given.limit)]
    model = "SmolLM2-135M-Instruct (Q4_1)" if given.model is None else given.model.name
    return {"Command": f"`{' '.join([*words, *given.keys])}`", "Model": f"{model}, LoRA"}


def _notes(seeds: Sequence[int], minutes: float) -> dict[str, Any]:
    return {
        "Seeds": f"{len(seeds)} ({', '.join(map(str, seeds))})",
        "Wall time": f"{minutes:.0f} minutes, of what this command had still to do",
        "Machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "Versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in VERSIONS),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--limit", type=at_least_one, help="items a suite; training takes a few steps"
    )
    parser.add_argument("--into", type=Path, help="where figures, table and drawing are written")
    parser.add_argument("--model", type=Path, help="a checkpoint that takes SmolLM2's place")
    parser.add_argument("--questions", type=Path, help="with --limit: a file in the bank's place")
    parser.add_argument("keys", nargs="*", help="KEY=VALUE of every step's recipe")
    given = parser.parse_args(arguments)
    given.seeds = sorted({*given.seeds})  # in any order, the same figures
    whole = given.limit is None
    work = cache_folder("experiments") / ("truth" if whole else f"truth-{given.limit}")
    into = given.into or (HERE if whole else work)
    model = given.model or smollm2_checkpoint()
    short = {} if whole else _shortened(work, given.limit, given.questions)
    overrides = {step: [*short.get(step, ()), *given.keys] for step in STEPS}
    run(given.seeds, given.limit, into, work, model, overrides, _told(given))


if __name__ == "__main__":
    with errors_in_one_line():
        main()
