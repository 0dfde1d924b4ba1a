"""Preferences from a model's own texts: right before "I don't know" before wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from trainer.conversations.records import ExampleFilter
from trainer.honesty.distinct import (
    about,
    answer_message,
    distinct,
    origin_of,
    prompt_messages,
)
from trainer.honesty.evenly import evenly
from trainer.honesty.factuality_counts import DECLINING, KINDS, FactualityCounts, PairKind
from trainer.honesty.own_answers import own_answers
from trainer.honesty.refusing import draw, key_of, refusals_of
from trainer.questions.question import Question
from trainer.questions.samples import SampledQuestion
from trainer.questions.verdict import Found
from trainer.recipe.own_samples import FactualitySection

KNOWN = 0.5
"""Share of right texts from which on a question counts as known: to decline it is a fault."""
EACH = 2
"""Pairs of one kind that a question gives at most, so that none outweighs the others."""


class FactualPair(NamedTuple):
    """Two texts in answer to one question, of which the first is better; None: a refusal of ours,
    which is worded later.
    """

    question: Question
    kind: PairKind
    chosen: str | None
    rejected: str | None


class WordedPair(NamedTuple):
    """A pair whose texts are both there."""

    question: Question
    kind: PairKind
    chosen: str
    rejected: str


def factuality_examples(
    sampled: Sequence[SampledQuestion],
    section: FactualitySection,
    seed: int,
    judged: bool,
    usable: ExampleFilter = lambda pair: True,
) -> tuple[list[dict[str, Any]], FactualityCounts]:
    """Pairs (`prompt`, `chosen`, `rejected`), or with `judged` answers (`messages`, `label`).

    Preferences over a model's own samples, told apart by a key: Tian and others,
    arXiv:2311.08401. Where some texts are right and some wrong, right is preferred; where `KNOWN`
    of them or more are right, to a refusal too; where fewer are, or nobody can know, a refusal is
    preferred to what is wrong, unless `section.wrong` leaves alone what has an answer. No text
    comes from the key (arXiv:2405.01525): chosen are the model's own right texts, our refusals, and
    its own ones where nobody can know. A refusal wins in as many pairs as it loses in, so that
    neither to answer nor to decline is always better. Pairs that find no wording, or are not
    `usable` (whether the set's reader uses one), are left out before. All follows from the
    questions, the samples and the seed, not from the questions' order. Judged texts are each there
    once, so that of alike ones there are fewer than of pairs.
    """
    asked = distinct(sampled)
    could = [pair for one in asked for pair in _pairs(one)]
    left_alone = "refusal over wrong" if section.wrong == "leave" else None
    found = [pair for pair in could if pair.kind != left_alone]
    worded = _worded(found, section, seed)
    whole = [pair for pair in worded if usable(_pair(pair))]
    kept = _balanced(whole, seed)
    made = list(_judged(kept)) if judged else [_pair(pair) for pair in kept]
    made.sort(key=lambda example: draw(seed, "example", repr(example)))
    counts = FactualityCounts(
        questions=len(sampled),
        examples=len(made),
        pairs=_less(kept, []),
        over=_less(whole, kept),
        left=len(could) - len(found),
        words={kind: _words([pair for pair in kept if pair.kind == kind]) for kind in KINDS},
        repeated=len(sampled) - len(asked),
        without_pair=len(asked) - len({key_of(pair.question) for pair in could}),
        unworded=_less(found, worded),
        unusable=_less(worded, whole),
        cut={
            outcome: sum(_all_cut(one, outcome) for one in asked) for outcome in ("right", "wrong")
        },
    )
    return made, counts


def _pairs(sampled: SampledQuestion) -> Iterator[FactualPair]:
    """The pairs of one question, of each kind `EACH` at most."""
    question, origin = sampled.question, origin_of(sampled, KNOWN)
    own = _texts(sampled, "declined")
    right, wrong = _texts(sampled, "right"), _texts(sampled, "wrong")
    ours = [None] * EACH
    if origin == "unknowable":
        # A refusal of its own is likelier to be said again. Where there is an answer it may deny
        # that there is one, which is not for us to teach.
        yield from _of(question, "refusal over invented", [*own, *ours], wrong)
        return
    yield from _of(question, "right over wrong", right, wrong)
    if origin == "known":
        yield from _of(question, "right over refusal", right, [*own, *ours])
    else:
        yield from _of(question, "refusal over wrong", ours, wrong)


def _less(
    more: Sequence[FactualPair | WordedPair], fewer: Sequence[FactualPair | WordedPair]
) -> dict[PairKind, int]:
    """By how many of each kind there are more."""
    found = Counter(pair.kind for pair in more)
    found.subtract(pair.kind for pair in fewer)
    return {kind: found[kind] for kind in KINDS}


def _all_cut(sampled: SampledQuestion, outcome: Found) -> bool:
    """Whether there are texts of this outcome, and nothing is left of any that stands by itself."""
    return any(one.outcome == outcome for one in sampled.samples) and not _texts(sampled, outcome)


def _texts(sampled: SampledQuestion, outcome: Found) -> list[str]:
    return [answer.text for answer in own_answers(sampled, outcome)]


def _of(
    question: Question, kind: PairKind, better: Sequence[str | None], worse: Sequence[str | None]
) -> Iterator[FactualPair]:
    for chosen, rejected in list(zip(better, worse, strict=False))[:EACH]:
        yield FactualPair(question, kind, chosen, rejected)


def _balanced(pairs: Sequence[WordedPair], seed: int) -> list[WordedPair]:
    """As many pairs as leave refusals and answers in balance, of all kinds of question alike.

    Right over wrong is on neither side: a refusal neither wins nor loses there.
    """
    by_kind = {kind: [pair for pair in pairs if pair.kind == kind] for kind in KINDS}
    mending, answering = by_kind["right over wrong"], by_kind["right over refusal"]
    declining = [pair for kind in DECLINING for pair in by_kind[kind]]
    most = min(len(answering), len(declining))
    return [*mending, *_fewer(answering, most, seed), *_fewer(declining, most, seed)]


def _fewer(pairs: list[WordedPair], most: int, seed: int) -> list[WordedPair]:
    kinds = (lambda pair: pair.kind, lambda pair: pair.question.kind or "")
    return evenly(pairs, most, kinds, lambda pair: draw(seed, "balance", _name(pair)))


def _name(pair: WordedPair) -> str:
    """What it is known by in a set."""
    return repr((key_of(pair.question), pair.kind, pair.chosen, pair.rejected))


def _worded(
    pairs: Sequence[FactualPair], section: FactualitySection, seed: int
) -> list[WordedPair]:
    """The pairs with refusals in their places; without those for which there is none."""
    refused = [pair for pair in pairs if None in (pair.chosen, pair.rejected)]
    worded = refusals_of([pair.question for pair in refused], section, seed)
    texts = {name: iter(refusals) for name, refusals in worded.items()}
    found = []
    for pair in pairs:
        chosen, rejected = pair.chosen, pair.rejected
        if chosen is None or rejected is None:
            refusal = next(texts[key_of(pair.question)], None)
            if refusal is None:
                continue
            chosen, rejected = chosen or refusal.text, rejected or refusal.text
        found.append(WordedPair(pair.question, pair.kind, chosen, rejected))
    return found


def _words(pairs: Sequence[WordedPair]) -> tuple[float, float]:
    """Mean words of the chosen and of the rejected texts."""
    many = max(len(pairs), 1)
    chosen = sum(len(pair.chosen.split()) for pair in pairs)
    return chosen / many, sum(len(pair.rejected.split()) for pair in pairs) / many


def _pair(pair: WordedPair) -> dict[str, Any]:
    return {
        "prompt": prompt_messages(pair.question),
        "chosen": [answer_message(pair.chosen)],
        "rejected": [answer_message(pair.rejected)],
        "about": about(pair.question, pair.kind),
    }


def _judged(pairs: Sequence[WordedPair]) -> Iterator[dict[str, Any]]:
    """Each text of the pairs once, and whether it is good."""
    seen = set()
    for pair in pairs:
        for text, good in ((pair.chosen, True), (pair.rejected, False)):
            if (key_of(pair.question), text) not in seen:
                seen.add((key_of(pair.question), text))
                messages = [*prompt_messages(pair.question), answer_message(text)]
                yield {
                    "messages": messages,
                    "label": good,
                    "about": about(pair.question, pair.kind),
                }
