"""The chain of models: a base, what cures it step by step, and blends of the two.

Each step is a recipe beside this file, run by `lyceum train`; what is finished is not run again,
and what was stopped goes on.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from launch.experiments.blending import blend
from launch.experiments.commands import run_command
from launch.experiments.made_of import is_trained
from launch.experiments.truth.replay import (
    WEIGHTS,
    replayed_answers,
    replayed_documentation,
    verified_requests,
)
from launch.local import NO_GPU, result_on_ranks
from trainer.files import write_whole
from trainer.honesty.evenly import evenly
from trainer.honesty.refusing import draw, key_of
from trainer.questions.bank import bank_questions
from trainer.questions.writing import question_lines
from trainer.recipe import load_recipe
from trainer.recipe.own_samples import BANK

RECIPES = Path(__file__).with_name("recipes")
STEPS = {
    "refusals": "+ refusal SFT",
    "factuality": "+ factuality DPO",
    "reinforce": "+ ternary GRPO",
}
"""The steps by the names of their recipes, each from the weights of the one before it."""
RANKS = 2
"""Ranks that train and ask, a core each: they write half as many texts again as one rank of two
threads.

On the CPU of any machine, as many GPUs may not be there.
"""
ASKED_FOR_PREFERENCES = {True: 600, False: 300}
"""Questions of the bank that preferences are made of, by whether they have an answer; another part
of it for each seed. Of these each is asked twice, which takes longer than all that follows.
"""


@dataclass(frozen=True)
class Blend:
    """A step's model with `share` of it, and of the base the rest.

    `drawn_only`: it is a point of the drawing, asked the held-out questions alone.
    """

    step: str
    share: float
    drawn_only: bool = False

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{STEPS[self.step]}, merge ({self.share:g} + {1 - self.share:.2g} base)"

    @property
    def short_label(self) -> str:
        """What a drawing calls it, beside its line to the base."""
        return f"{self.share:g} {STEPS[self.step].removeprefix('+ ')}"

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.step}-blend-{self.share:g}"


BLENDS = (
    Blend("refusals", 0.85),
    Blend("reinforce", 0.35, drawn_only=True),
    Blend("reinforce", 0.7),
)
"""The blends along the lines from steps to the base; README.md says how the shares were chosen."""


@dataclass(frozen=True)
class ChainModel:
    """A model of the experiment: its label in tables, its checkpoint and seed; `blend`: what it is
    blended of, where it is no step.
    """

    label: str
    checkpoint: Path
    seed: int
    blend: Blend | None = None

    @property
    def drawn_only(self) -> bool:
        """Whether it is asked the held-out questions alone."""
        return self.blend is not None and self.blend.drawn_only

    @property
    def records(self) -> str:
        """The folder of its records."""
        return f"seed-{self.seed}-{self.checkpoint.name}"


def chain_of(into: Path, seed: int) -> list[ChainModel]:
    """The models of a seed, in order, whether they are there or not."""
    folder = into / f"seed-{seed}"
    steps = [ChainModel(label, folder / step, seed) for step, label in STEPS.items()]
    return steps + [ChainModel(one.label, folder / one.name, seed, one) for one in BLENDS]


def built_chain(
    base: Path,
    into: Path,
    seed: int,
    overrides: Mapping[str, Sequence[str]],
    limit: int | None = None,
) -> Iterator[ChainModel]:
    """The models of a seed, each as soon as it is there.

    `overrides`: keys of each step's recipe; `limit`: answers that are replayed at most.

    Raises SystemExit where a step fails or is stopped, and RecipeError where a folder has what was
    made by another recipe or from another model.
    """
    cured = base
    own = {
        "refusals": [f"data.mixture={replayed_mixture(base, into / 'replayed', limit)}"],
        "factuality": [f"conversations.factuality.questions=[{drawn_questions(into, seed)}]"],
        "reinforce": [f"reinforce.questions=[{BANK},{verified_requests(into / 'replayed')}]"],
    }
    for one in chain_of(into, seed):
        if one.blend is not None:
            step = one.checkpoint.with_name(one.blend.step)
            result_on_ranks(partial(blend, base, step, one.blend.share, one.checkpoint), 1)
            yield one
            continue
        name = one.checkpoint.name
        keys = [f"run={one.checkpoint}", f"init_from={cured}", f"seed={seed}"]
        keys += [*own.get(name, ()), *overrides.get(name, ())]
        recipe = recipe_path(name)
        if not is_trained(load_recipe(recipe, keys)):
            train_step(recipe, keys)
        cured = one.checkpoint
        yield one


def drawn_questions(into: Path, seed: int) -> Path:
    """A file of the seed's part of the bank, as many of each kind as there are of every other."""
    bank = bank_questions()
    drawn = [
        one
        for answerable, most in ASKED_FOR_PREFERENCES.items()
        for one in evenly(
            [one for one in bank if one.answerable is answerable],
            most,
            [lambda one: one.kind or ""],
            lambda one: draw(seed, key_of(one)),
        )
    ]
    path = into / f"questions-{seed}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, question_lines(drawn))
    return path


def replayed_mixture(base: Path, into: Path, limit: int | None) -> str:
    """What is replayed beside the refusals, as the value of `data.mixture`; made where it is not.

    `limit`: answers at most. Raises what `run_command` raises.
    """
    answers = replayed_answers(base, into, RANKS, limit)
    entries = [
        {
            "corpus": str(replayed_documentation(recipe_path("refusals"), base, into)),
            "weight": WEIGHTS["documentation"],
        }
    ]
    if answers.stat().st_size:  # a model may have nothing to say
        entries.append({"corpus": str(answers), "weight": WEIGHTS["answers"]})
    return json.dumps(entries)


def recipe_path(step: str) -> str:
    """The recipe of a step."""
    return str(RECIPES / f"{step}.yaml")


def train_step(recipe: str, keys: Sequence[str]) -> None:
    """Run a step's recipe, on all ranks; raises what `run_command` raises."""
    command = [sys.executable, "-m", "trainer", "train", recipe, *keys, "--nproc", str(RANKS)]
    run_command(command, NO_GPU)
