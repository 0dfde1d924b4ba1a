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
from trainer.honesty.refusing import draw, has_refusal, key_of, refusals_of
from trainer.questions.question import Question
from trainer.questions.samples import SampledQuestion
from trainer.questions.verdict import Found
from trainer.recipe.own_samples import FactualitySection

KNOWN = 0.5
"""Share of right texts from which on a question counts as known: to decline it is a fault."""
EACH = 2
"""Pairs of one kind that a question gives at most, so that none outweighs the others."""


RankedTexts = tuple[str | None, ...]
"""In the order in which they are used; None: a refusal of ours, which is worded later."""


class Rivals(NamedTuple):
    """Texts in answer to one question, of which those of one side are better."""

    question: Question
    kind: PairKind
    better: RankedTexts
    worse: RankedTexts

    @property
    def pairs(self) -> int:
        """How many they can give."""
        return min(len(self.better), len(self.worse), EACH)

    @property
    def without_ours(self) -> "Rivals":
        """Those of the model's own texts alone."""
        better, worse = (
            tuple(text for text in side if text is not None) for side in (self.better, self.worse)
        )
        return self._replace(better=better, worse=worse)


class FactualPair(NamedTuple):
    """Two of them, of which the first is better."""

    question: Question
    kind: PairKind
    chosen: str | None
    rejected: str | None

    @property
    def has_ours(self) -> bool:
        """Whether one of them is a refusal of ours."""
        return None in (self.chosen, self.rejected)

    def worded(self, refusal: str = "") -> "WordedPair":
        """With this refusal in the place of ours, where one is."""
        chosen = refusal if self.chosen is None else self.chosen
        rejected = refusal if self.rejected is None else self.rejected
        return WordedPair(self.question, self.kind, chosen, rejected)


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
    neither to answer nor to decline is always better. Texts that find no wording or no partner with
    which they are `usable` (whether the set's reader uses a pair) are left out before. All follows
    from the questions, the samples and the seed, not from the questions' order. Judged texts are
    each there once, so that of alike ones there are fewer than of pairs.
    """
    asked = distinct(sampled)
    could = [rivals for one in asked for rivals in _rivals(one) if rivals.pairs]
    left_alone = "refusal over wrong" if section.wrong == "leave" else None
    found = [rivals for rivals in could if rivals.kind != left_alone]
    sayable = [_sayable(rivals, section) for rivals in found]
    paired = [*_paired(sayable, section, usable)]
    whole = _worded(paired, section, seed, usable)
    kept = _balanced(whole, seed)
    # What is lost behind the pairing lacks another wording beside the one that it has.
    unusable = _less(_numbers(sayable), _numbers(paired))
    unworded = _less(_less(_numbers(found), _numbers(whole)), unusable)
    made = list(_judged(kept)) if judged else [_pair(pair) for pair in kept]
    made.sort(key=lambda example: draw(seed, "example", repr(example)))
    counts = FactualityCounts(
        questions=len(sampled),
        examples=len(made),
        pairs=_numbers(kept),
        over=_less(_numbers(whole), _numbers(kept)),
        left=sum(rivals.pairs for rivals in could if rivals.kind == left_alone),
        words={kind: _words([pair for pair in kept if pair.kind == kind]) for kind in KINDS},
        repeated=len(sampled) - len(asked),
        without_pair=len(asked) - len({key_of(rivals.question) for rivals in could}),
        unworded=unworded,
        unusable=unusable,
        cut={
            "right": sum(_all_cut(one, "right") for one in asked),
            "wrong": sum(
                _all_cut(one, "wrong")
                for one in asked
                if section.wrong == "decline" or not one.question.answerable
            ),
        },
    )
    return made, counts


def _rivals(sampled: SampledQuestion) -> Iterator[Rivals]:
    """The texts of one question that are told apart, by kind."""
    question, origin = sampled.question, origin_of(sampled, KNOWN)
    own = _texts(sampled, "declined")
    right, wrong = _texts(sampled, "right"), _texts(sampled, "wrong")
    ours = (None,) * EACH
    if origin == "unknowable":
        # A refusal of its own is likelier to be said again. Where there is an answer it may deny
        # that there is one, which is not for us to teach.
        yield Rivals(question, "refusal over invented", (*own, *ours), wrong)
        return
    yield Rivals(question, "right over wrong", right, wrong)
    if origin == "known":
        yield Rivals(question, "right over refusal", right, (*own, *ours))
    else:
        yield Rivals(question, "refusal over wrong", ours, wrong)


def _sayable(rivals: Rivals, section: FactualitySection) -> Rivals:
    """Without our refusals where the question's verifier takes no wording for one."""
    ours = None in (*rivals.better, *rivals.worse)
    return rivals.without_ours if ours and not has_refusal(rivals.question, section) else rivals


def _paired(
    found: Sequence[Rivals], section: FactualitySection, usable: ExampleFilter
) -> Iterator[FactualPair]:
    """Pairs that are usable, of each kind `EACH` a question at most; a text is in one of them."""

    def fits(pair: FactualPair) -> bool:
        if not pair.has_ours:
            return usable(_pair(pair.worded()))
        return has_refusal(
            pair.question, section, lambda refusal: usable(_pair(pair.worded(refusal)))
        )

    for question, kind, better, worse in found:
        left, made = list(worse), 0
        for chosen in better:
            pairs = (FactualPair(question, kind, chosen, rejected) for rejected in left)
            pair = next(filter(fits, pairs), None) if made < EACH else None
            if pair is not None:
                left.remove(pair.rejected)
                made += 1
                yield pair


def _numbers(of: Sequence[Rivals | FactualPair | WordedPair]) -> dict[PairKind, int]:
    """How many pairs there are, or can be, of each kind."""
    found: Counter[PairKind] = Counter()
    for one in of:
        found[one.kind] += one.pairs if isinstance(one, Rivals) else 1
    return {kind: found[kind] for kind in KINDS}


def _less(more: dict[PairKind, int], fewer: dict[PairKind, int]) -> dict[PairKind, int]:
    """By how many of each kind there are more."""
    return {kind: more[kind] - fewer[kind] for kind in KINDS}


def _all_cut(sampled: SampledQuestion, outcome: Found) -> bool:
    """Whether texts of this outcome were cut, and nothing is left of any that stands by itself."""
    cut = any(one.outcome == outcome and not one.ended for one in sampled.samples)
    return cut and not _texts(sampled, outcome)


def _texts(sampled: SampledQuestion, outcome: Found) -> tuple[str, ...]:
    return tuple(answer.text for answer in own_answers(sampled, outcome))


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
    pairs: Sequence[FactualPair], section: FactualitySection, seed: int, usable: ExampleFilter
) -> list[WordedPair]:
    """The pairs with refusals in their places; without those for which there is none any more."""
    refused: dict[str, list[FactualPair]] = {}
    for pair in pairs:
        if pair.has_ours:
            refused.setdefault(key_of(pair.question), []).append(pair)

    def fits(question: Question, number: int, refusal: str) -> bool:
        return usable(_pair(refused[key_of(question)][number].worded(refusal)))

    questions = [pair.question for some in refused.values() for pair in some]
    found = refusals_of(questions, section, seed, fits)
    texts = {name: iter(refusals) for name, refusals in found.items()}
    worded = []
    for pair in pairs:
        if not pair.has_ours:
            worded.append(pair.worded())
        elif (refusal := next(texts[key_of(pair.question)], None)) is not None:
            worded.append(pair.worded(refusal.text))
    return worded


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
