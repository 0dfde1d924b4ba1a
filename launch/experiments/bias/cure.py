"""SmolLM2 before and after a cure: LoRA on short texts in which either pronoun is as common.

The texts are ours, about the occupations that are not held out; `conversations.balance` puts the
counterfactual beside each, so that nothing else than the pronoun tells the two apart. Beside them
docstrings are replayed, and the cured model is blended with its base, which forgets less of the
rest and keeps most of the cure.
What is measured are the held-out occupations, in sentences of other words; whether the suite `bias`
finds less of the prejudice about women and men, of which no text speaks; and what the cure costs:
bits a byte of other docstrings, and how many things that exist are known.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from launch.experiments.bias.occupations import SENTENCES, occupations
from launch.experiments.bias.page import SHOWN
from launch.experiments.bias.pronouns import pronoun_suite
from launch.experiments.blending import blend
from launch.experiments.compared import compared
from launch.experiments.measuring import measure
from launch.experiments.tables import machine_of
from launch.experiments.training import trained
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.suites import load_suite
from trainer.evaluate.suites.suite import Item, Suite, SuiteContext
from trainer.files import write_whole
from trainer.recipe import Recipe
from trainer.recipe.load import with_base_model

if TYPE_CHECKING:
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.opened import OpenedModel
    from trainer.evaluate.respondent import Respondent

GENDER = "bias-gender"
BLENDED = 0.5
"""The share of the cured model in its blend with the base."""
REPLAYED = 300
"""Characters of a replayed paragraph at most, which fit into a sequence."""


@dataclass(frozen=True)
class CureSize:
    """How long the cure is, and how much of the suites is asked.

    `steps` of `sequences` rows of 128 tokens; `questions` of `known-unknown` (0: it is
    left out), `tokens` of text, and items of other suites at most.
    """

    steps: int = 80
    sequences: int = 8
    questions: int = 48
    tokens: int = 3_000
    pronouns: int | None = None
    pairs: int | None = 60


SMALL = CureSize(2, 1, 2, 200, 60, 4)
"""A cure of a test."""


def run_cure(
    folder: Path,
    held_out: Path,
    seeds: Sequence[int],
    size: CureSize,
    base: Path,
    replayed: Path,
) -> dict[str, Any]:
    """The base, its cured models with each seed and their blends, measured; the figures as JSON.

    `held_out`: the text that bits a byte are over; `base`: SmolLM2's checkpoint, or one in its
    place; `replayed`: documents, of which the docstrings are read beside the examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    examples = [_write_examples(folder), _write_replayed(folder, replayed)]
    suites = [pronoun_suite(held_out=True), load_suite("perplexity"), gender_suite()]
    suites += [load_suite("known-unknown")] if size.questions else []

    def context_of(
        model: "OpenedModel", respondent: "ModelRespondent", suite: Suite
    ) -> SuiteContext:
        from trainer.evaluate.text_pieces import WindowsOfText

        text = GivenText([str(held_out)])
        windows = WindowsOfText(text, model.tokenizer, model.longest, size.tokens)
        return SuiteContext(respondent, held_out=windows)

    limits = {"known-unknown": size.questions}
    limits |= {} if size.pronouns is None else {"pronouns": size.pronouns}
    limits |= {} if size.pairs is None else {GENDER: size.pairs}
    measure(base, suites, folder / "records" / "base", context_of, limits)
    for seed in seeds:
        run = trained(cure_recipe(base, examples, folder / f"cured-{seed}", seed, size))
        blended = folder / f"blended-{seed}"
        blend(base, run, BLENDED, blended)
        for one in (run, blended):
            measure(one, suites, folder / "records" / one.name, context_of, limits)
    records = {"base": [folder / "records" / "base"] * len(seeds)}
    records |= {
        name: [folder / "records" / f"{name}-{seed}" for seed in seeds]
        for name in ("cured", "blended")
    }
    context = SuiteContext(cast("Respondent", None))  # which figures of records do not ask
    return {
        "environment": machine_of(folder / f"cured-{seeds[0]}"),
        "seeds": list(seeds),
        "trained": {"steps": size.steps, "tokens_a_step": size.sequences * 128},
        "blended": BLENDED,
        "seconds": [_seconds_of(folder / f"cured-{seed}") for seed in seeds],
        "occupations": {
            "trained": sum(not job.held_out for job in occupations()),
            "held out": sum(job.held_out for job in occupations()),
        },
        "figures": compared(records, suites, context, dict(SHOWN)),
    }


def gender_suite() -> Suite:
    """The suite `bias`, of which the pairs about women and men alone are asked."""
    whole = load_suite("bias")

    def items(context: SuiteContext) -> list[Item]:
        everything = whole.items(replace(context, limit=None))
        pairs = [one for one in everything if one.shown["category"] == "gender"]
        asked = [one for one in pairs if one.shown["form"] != "continuation"]
        return asked[:: -(-len(asked) // context.limit)] if context.limit else asked

    return replace(whole, name=GENDER, items=items)


def cure_recipe(
    base: Path, examples: Sequence[Path], run: Path, seed: int, size: CureSize
) -> Recipe:
    """LoRA of rank 8 on the files of examples, each example beside its counterfactual."""
    keys: dict[str, Any] = {
        "stage": "sft",
        "run": str(run),
        "init_from": str(base),
        "seed": seed,
        "steps": size.steps,
        "sequence_length": 128,
        "device": "cpu",
        "precision": "bf16",
        "lora": {"rank": 8, "alpha": 16, "seed": seed},
        "data": {"mixture": [{"corpus": str(one)} for one in examples]},
        # A docstring may be longer than a sequence: its beginning is replayed then.
        "conversations": {"balance": {"counterfactual": 1.0}, "too_long": "cut"},
        "batch": {"sequences": size.sequences, "micro": size.sequences},
        "optimizer": {"lr": 1.0e-3},
        "schedule": {
            "name": "wsd",
            "warmup": size.steps // 15,
            "decay": size.steps // 2,
            "floor": 0.0,
        },
        "checkpoint": {"every": 0, "save_final": True},
        "observe": {"tensorboard": False},
    }
    return Recipe.from_keys(with_base_model(keys))


def _write_examples(folder: Path) -> Path:
    """A sentence an example, of each occupation that is not held out: what stands up to it, and on.

    All are written with "he"; `conversations.balance` adds the others.
    """
    file = folder / "examples.jsonl"
    if not file.is_file():
        lines = []
        for job in (one for one in occupations() if not one.held_out):
            for number, sentence in enumerate(SENTENCES):
                before, _, after = sentence.partition("{job}")
                example = {"prompt": before + job.name, "completion": after}
                lines.append(json.dumps({"id": f"{job.name}:{number}", **example}))
        write_whole(file, "\n".join(lines) + "\n")
    return file


def _write_replayed(folder: Path, documents: Path) -> Path:
    """Paragraphs of the docstrings among `documents`, each behind its first word."""
    file = folder / "replayed.jsonl"
    if not file.is_file():
        lines = []
        for line in documents.read_text(encoding="utf-8").splitlines():
            document = json.loads(line)
            if not document["id"].startswith("docstring:"):
                continue
            for number, paragraph in enumerate(document["text"].split("\n\n")):
                first, space, rest = paragraph.strip()[:REPLAYED].partition(" ")
                if rest:
                    example = {"prompt": first, "completion": space + rest}
                    lines.append(json.dumps({"id": f"{document['id']}:{number}", **example}))
        write_whole(file, "\n".join(lines) + "\n")
    return file


def _seconds_of(run: Path) -> float:
    """Seconds of a run's steps."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return round(sum(float(json.loads(line)["step_seconds"]) for line in lines), 1)
