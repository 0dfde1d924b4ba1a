"""A set of the run's own samples: made once, before the first step, and kept with the run."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import trainer
from trainer.conversations.sets import EXAMPLES, MADE_OF, usable_in_own_set
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import DataError, StopRequested, TrainingError
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.examination import ItemsDone
from trainer.evaluate.stopping import ExaminationStopped, Stop, StoppableRespondent
from trainer.files import write_whole
from trainer.honesty.distinct import distinct
from trainer.honesty.preference_examples import KNOWN, factuality_examples
from trainer.honesty.refusal_examples import RefusalCounts, refusal_examples
from trainer.model.transformer import LanguageModel
from trainer.own_sets.made_of import asked_files, base_seal, identity, is_made
from trainer.own_sets.questions import questions_of
from trainer.own_sets.sampling import Asking, sample, sampled_questions
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.layout import Layout
from trainer.questions.samples import SampledQuestion
from trainer.recipe import Recipe
from trainer.recipe.own_samples import FactualitySection, OwnSamplesSection, RefusalsSection
from trainer.recipe.own_sets import own_key_of, own_sections
from trainer.sources import Sources, open_sources
from trainer.stages.asking import AskedQuestion, put_to_model

_log = logging.getLogger(__name__)


def ensure_own_sets(
    recipe: Recipe,
    layout: Layout,
    sources: Sources,
    chunks: list[LanguageModel],
    base_weights: Callable[[], AbstractContextManager[None]],
    stop: Stop,
    advance: ItemsDone,
) -> Sources:
    """The run's sources with its own sets, which are made where they are not yet; collective.

    The live model is asked, with the weights that the run starts from (`base_weights`: a block in
    which it has them); `advance`: called with how far that is. Raises DataError for questions that
    cannot be asked, or of whose answers no set can be made; StopRequested, with what was answered
    kept; TrainingError where something cannot be written.
    """
    ranks = Ranks(layout.hosts)
    asked = [name for name in own_sections(recipe) if not on_first_rank(ranks, _made(recipe, name))]
    if not asked:
        return sources
    try:
        with base_weights():
            for name in asked:
                _ask(recipe, name, layout, chunks, stop, advance)
    except ExaminationStopped:
        raise StopRequested(
            f"run {recipe.run} stopped while its model was asked for conversations.{name}; the same"
            " command goes on from there"
        ) from None
    return open_sources(recipe, partial(on_first_rank, ranks))


def _made(recipe: Recipe, name: str) -> Callable[[], bool]:
    return lambda: is_made(recipe, name)


def _ask(
    recipe: Recipe,
    name: str,
    layout: Layout,
    chunks: list[LanguageModel],
    stop: Stop,
    advance: ItemsDone,
) -> None:
    section, key = own_sections(recipe)[name], f"conversations.{name}"
    assert recipe.tokenizer is not None, "a resolved recipe of sets has it"
    # The base's own form is the one that it knows, whatever the recipe's template is to teach.
    tokenizer = load_tokenizer(recipe.tokenizer, recipe.data.remote)
    own = recipe.model_copy(update={"stage": "pretrain"})
    folder, ranks = Path(recipe.run) / name, Ranks(layout.hosts)
    asked: list[AskedQuestion] = []  # elsewhere than on the first rank queries alone are known

    def put() -> None:
        questions = questions_of(section, key, recipe.seed)
        if not any(question.answerable for question in questions):
            raise DataError(
                f"{key}.questions: none of {len(questions):,} questions has an answer, so that the"
                " model would learn only to refuse: ask some that it may know too"
            )
        asked.extend(put_to_model(questions, own, tokenizer, section.tokens, f"{key}.tokens"))

    on_first_rank(ranks, put)
    asking = Asking(name, section, asked, own_key_of(recipe, name), recipe.seed)
    answering = ModelRespondent(chunks, own, layout, tokenizer)
    if layout.reports:
        _log.info(
            "%s: asking %s %d questions, %d times each: %s",
            *(name, recipe.init_from, len(list(filter(asking.samples, asked)))),
            *(section.samples, folder / "samples.jsonl"),
        )
    sample(
        asking,
        StoppableRespondent(answering, stop),
        ranks,
        folder,
        {"base": on_first_rank(ranks, lambda: base_seal(recipe))},
        lambda _, done, items: advance(name, done, items),
    )
    on_first_rank(ranks, lambda: _write(recipe, asking, folder))


def _write(recipe: Recipe, asking: Asking, folder: Path) -> None:
    """The examples that follow from the samples, and what they were made of; on the first rank."""
    sampled = sampled_questions(asking, folder)
    examples, counts, said = _examples(sampled, asking.section, recipe)
    line = f"{asking.name}: {_summary(sampled, asking.section)}; {said}"
    _log.info("%s", line)
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in examples)
    made_of = {
        "builder": f"lyceum {trainer.__version__}",
        "identity": identity(recipe, asking.name),
        "base": recipe.init_from,
        "files": asked_files(asking.section),
        "counts": counts,
        "summary": line,
        "examples": len(examples),
        "examples_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    try:
        (folder / MADE_OF).unlink(missing_ok=True)  # of what the set was before, as its shards
        if (folder / "shards").exists():
            shutil.rmtree(folder / "shards")
        write_whole(folder / EXAMPLES, text)
        write_whole(folder / MADE_OF, json.dumps(made_of, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot be written: {error.strerror}; free some room, and the same command"
            " goes on from the samples that are there"
        ) from None


def _examples(
    sampled: Sequence[SampledQuestion], section: OwnSamplesSection, recipe: Recipe
) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """The examples, their counts as JSON and in words; raises DataError where there is no set."""
    usable, seed = usable_in_own_set(recipe), recipe.seed
    if isinstance(section, FactualitySection):
        judged = recipe.stage_traits.corpora(recipe)[0] == "judged"
        preferences, told = factuality_examples(sampled, section, seed, judged, usable)
        if not preferences:
            raise DataError(
                f"conversations.factuality.questions: none of {len(sampled):,} questions gives a"
                f" preference, as {told.why_none}"
            )
        return preferences, asdict(told), str(told)
    assert isinstance(section, RefusalsSection)
    examples, counts = refusal_examples(sampled, section, seed, usable)
    _check_refusals(sampled, section, counts)
    return examples, asdict(counts), str(counts)


def _check_refusals(
    sampled: Sequence[SampledQuestion], section: RefusalsSection, counts: RefusalCounts
) -> None:
    """Raise DataError where answers or refusals are lacking, with why and the mend."""
    key, threshold = "conversations.refusals", section.threshold
    answerable = sum(one.question.answerable for one in sampled)
    dropped = "is too long or spells a special token: raise sequence_length, or ask others"
    refused = counts.wrong + counts.unknowable
    beyond = sum(counts.over_share.values())
    # Without an answer no refusal is within a share.
    only = "would learn only to refuse" if refused + beyond else "would learn nothing"
    if not counts.known and (lost := counts.unusable["known"]):
        raise DataError(
            f"{key}.questions: the model {only}: of {lost:,} questions that it knows, each right"
            f" text {dropped}"
        )
    if not counts.known and counts.without_text:
        raise DataError(
            f"{key}: of {counts.without_text:,} questions that the model knows, no right text"
            f" stands by itself, cut before a sentence ends or empty, and it {only}: raise"
            f" {key}.tokens"
        )
    if not counts.known:
        raise DataError(
            f"{key}.questions: of {answerable:,} questions that have an answer, the model knows"
            f" none that it can be shown (threshold {threshold:g}), and {only}: ask easier ones, or"
            f" lower {key}.threshold"
        )
    if refused:
        return
    if beyond:
        # A share of 0 is one of no refusal however often the answers come again.
        again = f", or set {key}.beyond_share=repeat" if section.share else ""
        raise DataError(
            f"{key}.share: {section.share:g} allows no refusal beside {counts.known:,} known"
            f" answers, and {beyond:,} questions are to be declined: raise it{again}"
        )
    nothing = f"{key}.questions: nothing is left to refuse"
    if lost := counts.unusable["wrong"] + counts.unusable["unknowable"]:
        raise DataError(f"{nothing}: of {lost:,} questions to decline, each refusal {dropped}")
    if counts.unworded:
        raise DataError(
            f"{nothing}: of {counts.unworded:,} questions to decline the verifier takes no wording"
            " for a refusal: ask such questions of another verifier"
        )
    if counts.left:
        raise DataError(
            f"{nothing}: the {counts.left:,} that the model gets wrong are left alone: ask some"
            f" that nobody can answer, or set {key}.wrong=decline"
        )
    known = counts.known + counts.without_text + counts.unusable["known"]
    raise DataError(
        f"{nothing}: of {len(sampled):,} questions the model knows {known:,}, and"
        f" {len(sampled) - answerable:,} have no answer to know: ask some that it gets wrong or"
        " that nobody can answer"
    )


def _summary(sampled: Sequence[SampledQuestion], section: OwnSamplesSection) -> str:
    threshold = section.threshold if isinstance(section, RefusalsSection) else KNOWN
    asked = distinct(sampled)
    answerable = [one for one in asked if one.question.answerable]
    known = sum(one.right_share >= threshold for one in answerable)
    return (
        f"{len(asked):,} questions, {section.samples} samples each: {known:,} known,"
        f" {len(answerable) - known:,} not known, {len(asked) - len(answerable):,} nobody can"
        " know"
    )
