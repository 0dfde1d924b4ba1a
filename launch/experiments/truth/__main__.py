"""The experiment on truth: SmolLM2, cured step by step, asked what it was not trained on.

    make smollm2
    python -m launch.experiments.truth [--seeds 0 1 2] [--kept SEED ...] [--limit N] [--into DIR]

Trains what is not there yet, asks what was not asked yet, and writes figures.json, table.md,
trade_off.svg and the records of every answer into DIR (without --limit and --into: beside this
file). Runs stay below the cache. Of seeds that are --kept the records in DIR are counted, and
nothing is trained. With --limit a few steps and N items a suite, to see that all of it works.
"""

import argparse
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launch.experiments.commands import at_least_one, errors_in_one_line
from launch.experiments.truth.chain import STEPS, ChainModel, built_chain, chain_of
from launch.experiments.truth.kept import keep, kept_records, making
from launch.experiments.truth.measuring import HELD_OUT, SUITES, measured, records_of
from launch.experiments.truth.replay import verified_requests
from launch.experiments.truth.results import ModelRecords, Records, write_results
from trainer.errors import DataError
from trainer.evaluate.smollm2 import smollm2_checkpoint
from trainer.files import cache_folder, write_whole
from trainer.questions.bank import bank_questions
from trainer.questions.writing import question_lines

HERE = Path(__file__).parent
BASE = "base"
SEEDS = (0, 1, 2)
SMOKE_STEPS = 2
SMOKE_SAMPLES = 16
"""Texts that a step of reinforcement samples: two groups."""
VERSIONS = ("torch", "megatron-core", "deepspeed")


AnsweredModel = tuple[ChainModel, Records]


@dataclass(frozen=True)
class Experiment:
    """What is run, and where: `limit`: items a suite at most; `into`: where results are written;
    `work`: where runs and records lie; `model`: the base; `overrides`: keys of each step's recipe;
    `made_by`: what of this decides the records.
    """

    limit: int | None
    into: Path
    work: Path
    model: Path
    overrides: Mapping[str, Sequence[str]]
    made_by: Mapping[str, Any]

    def archive(self, name: str) -> Path:
        """Where the records of the base, or of a seed, are kept."""
        return self.into / "records" / f"{name}.tar.xz"

    def base(self) -> Records:
        """The base's records, asked where it was not."""
        records = self.work / "records"
        found = measured(self.model, records / BASE, list(SUITES), self.limit)
        keep(records, [BASE], self.archive(BASE), self.made_by)
        return found

    def trained(self, seed: int) -> list[AnsweredModel]:
        """The models of a seed, trained and asked where they were not."""
        records, found = self.work / "records", list[AnsweredModel]()
        for one in built_chain(self.model, self.work, seed, self.overrides, self.limit):
            folder = records / one.records
            found.append((one, measured(one.checkpoint, folder, _asked(one), self.limit)))
        names = [one.records for one, _ in found]
        keep(records, names, self.archive(f"seed-{seed}"), self.made_by)
        return found


def run(
    experiment: Experiment, seeds: Sequence[int], kept: Sequence[int], told: Mapping[str, str]
) -> None:
    """Train, measure, and write the results; of `kept` seeds, and then of the base, the records
    that are there are read instead; `told`: what the results say of the model and the command.
    """
    started = time.monotonic()
    base, found = _read_kept(experiment, kept) if kept else (experiment.base(), {})

    def minutes() -> float:
        return (time.monotonic() - started) / 60

    def write() -> None:
        notes = {**told, **_notes(sorted(found), kept, minutes())}
        experiment.into.mkdir(parents=True, exist_ok=True)
        write_results(ModelRecords(BASE, [base]), _by_label(found), experiment.into, notes)

    if not seeds:
        write()
    for seed in seeds:
        found[seed] = experiment.trained(seed)
        print(f"seed {seed}: done after {minutes():.0f} minutes of this command", flush=True)
        write()


def _by_label(found: Mapping[int, Sequence[AnsweredModel]]) -> list[ModelRecords]:
    """Of each model the records of all seeds, in the order of the seeds."""
    by_label: dict[str, list[AnsweredModel]] = {}
    for seed in sorted(found):
        for one, records in found[seed]:
            by_label.setdefault(one.label, []).append((one, records))
    return [
        ModelRecords(label, [records for _, records in those], those[0][0].blend)
        for label, those in by_label.items()
    ]


def _read_kept(
    experiment: Experiment, seeds: Sequence[int]
) -> tuple[Records, dict[int, list[AnsweredModel]]]:
    """The kept records of the base and of these seeds."""
    archives = [experiment.archive(name) for name in (BASE, *(f"seed-{seed}" for seed in seeds))]
    with kept_records(archives, experiment.made_by) as folder:
        try:
            found = {
                seed: [
                    (one, _read(folder / one.records, _asked(one)))
                    for one in chain_of(folder, seed)
                ]
                for seed in seeds
            }
            return _read(folder / BASE, list(SUITES)), found
        except (DataError, KeyError, ValueError) as error:
            raise DataError(
                f"{experiment.archive('*')}: records are lacking or damaged ({error}): train their"
                " seeds again"
            ) from None


def _asked(model: ChainModel) -> list[str]:
    """The suites that it is asked."""
    return [HELD_OUT.name] if model.drawn_only else list(SUITES)


def _read(folder: Path, names: Sequence[str]) -> Records:
    return {name: records_of(folder, name) for name in names}


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
    short = {
        step: [f"steps={SMOKE_STEPS}", f"{key}=[{questions}{beside.get(step, '')}]"]
        for step, key in named.items()
    }
    short["reinforce"].append(f"batch.sequences={SMOKE_SAMPLES}")
    return short


def _told(given: argparse.Namespace) -> dict[str, str]:
    """The command, without where files lie, and whose figures they are."""
    words = ["python -m launch.experiments.truth"]
    words += ["--seeds", *map(str, given.seeds)] if given.seeds else []
    words += ["--kept", *map(str, given.kept)] if given.kept else []
    words += [] if given.limit is None else ["--limit", str(given.limit)]
    model = "SmolLM2-135M-Instruct (Q4_1)" if given.model is None else given.model.name
    return {"Command": f"`{' '.join([*words, *given.keys])}`", "Model": f"{model}, LoRA"}


def _notes(seeds: Sequence[int], kept: Sequence[int], minutes: float) -> dict[str, Any]:
    counted = f"; counted from kept records: {', '.join(map(str, kept))}" if kept else ""
    return {
        "Seeds": f"{len(seeds)} ({', '.join(map(str, seeds))}{counted})",
        "Wall time": f"{minutes:.0f} minutes, of what this command had still to do",
        "Machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "Versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in VERSIONS),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", help="to be trained; without --kept 0 1 2")
    parser.add_argument(
        "--kept",
        type=int,
        nargs="+",
        default=[],
        help="seeds of which the kept records are counted",
    )
    parser.add_argument(
        "--limit", type=at_least_one, help="items a suite; training takes a few steps"
    )
    parser.add_argument("--into", type=Path, help="where figures, table and drawing are written")
    parser.add_argument("--model", type=Path, help="a checkpoint that takes SmolLM2's place")
    parser.add_argument("--questions", type=Path, help="with --limit: a file in the bank's place")
    parser.add_argument("keys", nargs="*", help="KEY=VALUE of every step's recipe")
    given = parser.parse_args(arguments)
    # In any order, the same figures.
    given.kept = sorted({*given.kept})
    given.seeds = sorted({*(given.seeds or ([] if given.kept else SEEDS))} - {*given.kept})
    whole = given.limit is None
    work = cache_folder("experiments") / ("truth" if whole else f"truth-{given.limit}")
    into = given.into or (HERE if whole else work)
    # Where nothing is trained no model is needed.
    model = given.model or (smollm2_checkpoint() if given.seeds else Path())
    short = {} if whole else _shortened(work, given.limit, given.questions)
    overrides = {step: [*short.get(step, ()), *given.keys] for step in STEPS}
    told = _told(given)
    made_by = making(told["Model"], given.keys, given.limit)
    experiment = Experiment(given.limit, into, work, model, overrides, made_by)
    run(experiment, given.seeds, given.kept, told)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
