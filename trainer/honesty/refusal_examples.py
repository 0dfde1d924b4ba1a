"""Examples that answer what a model knows, in its own words, and decline what it does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil
from typing import Any

from trainer.conversations.columns import CONTINUES
from trainer.conversations.records import ExampleFilter
from trainer.honesty.distinct import (
    QuestionOrigin,
    about,
    answer_message,
    distinct,
    origin_of,
    prompt_messages,
)
from trainer.honesty.evenly import evenly
from trainer.honesty.own_answers import OwnAnswer, own_answers
from trainer.honesty.refusing import draw, has_refusal, key_of, refusals_of
from trainer.questions.question import Question
from trainer.questions.samples import SampledQuestion
from trainer.recipe.own_samples import RefusalsSection


@dataclass(frozen=True)
class RefusalCounts:
    """What became of the questions of `conversations.refusals`.

    `known`, `wrong`, `unknowable`: questions of each origin, an example each; `again`: further
    examples of known ones; `shortened`: known ones whose first text was cut and is used up to its
    last whole sentence, whose end is not learned; `explained`: refusals that say why; the others
    were left out: `repeated`, prompts that come twice; `without_text`, known, and no right text
    stands by itself; `unasked`, with an answer and no sample; `left`, wrong, as `wrong: leave`
    says; `over_share`, refusals beyond `share`, by origin; `unworded`, whose verifier takes no
    wording for a refusal; `unusable`, by origin, of whose texts the set's reader would drop each,
    too long or spelling a special token.
    """

    questions: int
    known: int
    again: int
    wrong: int
    unknowable: int
    shortened: int
    explained: int
    repeated: int
    without_text: int
    unasked: int
    left: int
    over_share: dict[QuestionOrigin, int]
    unworded: int
    unusable: dict[QuestionOrigin, int]

    def __str__(self) -> str:
        again = f", and {self.again:,} times again" if self.again else ""
        said = (
            f"of {self.questions:,} questions {self.known:,} are answered in the model's own words"
            f" ({self.shortened:,} of them up to the last whole sentence){again}; {self.wrong:,}"
            f" that it gets wrong and {self.unknowable:,} that nobody can answer are declined"
            f" ({self.explained:,} with a reason)"
        )
        left = {
            "that it gets wrong, as wrong=leave": self.left,
            "that it gets wrong, beyond share": self.over_share["wrong"],
            "that nobody can answer, beyond share": self.over_share["unknowable"],
            "known without a right text that stands by itself": self.without_text,
            "asked twice": self.repeated,
            "with no sample": self.unasked,
            "whose verifier takes no wording for a refusal": self.unworded,
            "too long or spelling a special token": sum(self.unusable.values()),
        }
        listed = [f"{number:,} {why}" for why, number in left.items() if number]
        return f"{said}; left out: {', '.join(listed)}" if listed else said


def refusal_examples(
    sampled: Sequence[SampledQuestion],
    section: RefusalsSection,
    seed: int,
    usable: ExampleFilter = lambda example: True,
) -> tuple[list[dict[str, Any]], RefusalCounts]:
    """The examples, `messages` and `about` each, and what became of the questions.

    A question of which `section.threshold` of the samples or more are right is answered by the most
    frequent right one; another is declined (R-Tuning, arXiv:2311.09677; that a threshold on several
    samples tells what a model knows: Alignment for Honesty, arXiv:2312.07000). No answer comes from
    the key: to teach what a model does not know makes it invent more (FLAME, arXiv:2405.01525).
    Refusals are at most `section.share` of the examples: of fewer of them, or as
    `section.beyond_share` says, of more answers; what is not `usable` (whether the set's reader
    uses an example) goes before that. All follows from the questions, the samples and the seed, not
    from the order of the questions.
    """
    asked = distinct(sampled)
    stated, without_text = _answered(asked, section.threshold)
    answered = _usable_answers(stated, usable)
    declined, left, unasked = _to_decline(asked, section)

    def fits(question: Question, text: str) -> bool:
        return usable(_example(question, text, declined[key_of(question)][1]))

    whole = {
        name: (question, origin)
        for name, (question, origin) in declined.items()
        if has_refusal(question, section, partial(fits, question))
    }
    worded = {
        name: one for name, one in declined.items() if name in whole or has_refusal(one[0], section)
    }
    kept = _within(whole, section, len(answered), seed)
    # Of what is kept alone, or the wordings would be used evenly among what is left out.
    found = refusals_of(
        [question for question, _ in kept.values()],
        section,
        seed,
        lambda question, _, text: fits(question, text),
    )
    refusals = {name: found[name][0] for name in kept}
    times = _times(answered, section, len(refusals), seed)
    examples = {
        (name, *([str(time)] if time else [])): _known(question, texts[time % len(texts)])
        for name, (question, texts) in answered.items()
        for time in range(times[name])
    }
    for name, refusal in refusals.items():
        question, origin = kept[name]
        examples[(name,)] = _example(question, refusal.text, origin)
    order = sorted(examples, key=lambda name: draw(seed, "example", *name))
    numbers, sayable, said = (
        {which: sum(origin == which for _, origin in some.values()) for which in _DECLINED}
        for some in (kept, whole, worded)
    )
    counts = RefusalCounts(
        questions=len(sampled),
        known=len(answered),
        again=sum(times.values()) - len(answered),
        wrong=numbers["wrong"],
        unknowable=numbers["unknowable"],
        shortened=sum(texts[0].shortened for _, texts in answered.values()),
        explained=sum(refusal.says_why for refusal in refusals.values()),
        repeated=len(sampled) - len(asked),
        without_text=without_text,
        unasked=unasked,
        left=left,
        over_share={which: sayable[which] - numbers[which] for which in _DECLINED},
        unworded=len(declined) - len(worded),
        unusable={
            "known": len(stated) - len(answered),
            **{which: said[which] - sayable[which] for which in _DECLINED},
        },
    )
    return [examples[name] for name in order], counts


_DECLINED: tuple[QuestionOrigin, ...] = ("wrong", "unknowable")
_Answered = dict[str, tuple[Question, Sequence[OwnAnswer]]]
_Declined = dict[str, tuple[Question, QuestionOrigin]]


def _answered(asked: Sequence[SampledQuestion], threshold: float) -> tuple[_Answered, int]:
    """What is known, with its texts; how many have none."""
    found: _Answered = {}
    without_text = 0
    for one in asked:
        if origin_of(one, threshold) != "known":
            continue
        own = own_answers(one, "right")
        if own:
            found[key_of(one.question)] = one.question, own
        without_text += not own
    return found, without_text


def _usable_answers(answered: _Answered, usable: ExampleFilter) -> _Answered:
    """What is known, with those of its texts that can be used; without what then has none."""
    found = {
        name: (question, [text for text in texts if usable(_known(question, text))])
        for name, (question, texts) in answered.items()
    }
    return {name: (question, texts) for name, (question, texts) in found.items() if texts}


def _to_decline(
    asked: Sequence[SampledQuestion], section: RefusalsSection
) -> tuple[_Declined, int, int]:
    """What is to be declined; how many that are wrong are left; how many have no sample."""
    found: _Declined = {}
    left = unasked = 0
    for one in asked:
        origin = origin_of(one, section.threshold)
        if origin == "wrong" and not one.samples:
            unasked += 1
        elif origin == "wrong" and section.wrong == "leave":
            left += 1
        elif origin != "known":
            found[key_of(one.question)] = one.question, origin
    return found, left, unasked


def _within(declined: _Declined, section: RefusalsSection, answered: int, seed: int) -> _Declined:
    """What is declined of it, as many of each origin and kind as can be."""
    share = Fraction(str(section.share))
    all_stay = share >= 1 or (share > 0 and answered > 0 and section.beyond_share == "repeat")
    most = len(declined) if all_stay else int(share * answered / (1 - share))
    kept = evenly(
        list(declined),
        most,
        (lambda name: declined[name][1], lambda name: declined[name][0].kind or ""),
        lambda name: draw(seed, "share", name),
    )
    return {name: declined[name] for name in kept}


def _times(
    answered: _Answered, section: RefusalsSection, refusals: int, seed: int
) -> dict[str, int]:
    """How often each known question is answered: once, or as the refusals' share wants it."""
    share = Fraction(str(section.share))
    wanted = len(answered)
    if answered and share and section.beyond_share == "repeat":
        wanted = max(wanted, ceil(refusals * (1 - share) / share))
    order = sorted(answered, key=lambda name: draw(seed, "again", name))
    return {
        name: wanted // len(order) + (place < wanted % len(order))
        for place, name in enumerate(order)
    }


def _known(question: Question, answer: OwnAnswer) -> dict[str, Any]:
    """The end of what was cut short is none of the model's: learned, it shortens all answers."""
    example = _example(question, answer.text, "known")
    return {**example, CONTINUES: True} if answer.shortened else example


def _example(question: Question, text: str, origin: QuestionOrigin) -> dict[str, Any]:
    messages = [*prompt_messages(question), answer_message(text)]
    return {"messages": messages, "about": about(question, origin)}
