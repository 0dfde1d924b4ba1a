"""What became of the questions of `conversations.factuality`: its pairs, and what is left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from trainer.questions.verdict import Found

PairKind = Literal[
    "right over wrong", "right over refusal", "refusal over wrong", "refusal over invented"
]
KINDS: tuple[PairKind, ...] = get_args(PairKind)
DECLINING: tuple[PairKind, ...] = ("refusal over wrong", "refusal over invented")
"""Kinds in which a refusal is the better text."""


@dataclass(frozen=True)
class FactualityCounts:
    """What became of the questions of `conversations.factuality`.

    `pairs`: of each kind that are used; `over`: of each kind that were left out for balance;
    `left`: refusal over wrong, left out as `wrong: leave` says; `unworded`: of each kind, whose
    question's verifier takes no wording for a refusal, or none beside another; `unusable`: of each
    kind, that find no partner with which the set's reader uses them, too long or spelling a special
    token; `words`: mean words of the chosen and of the rejected texts of each kind, which tell
    whether length gives the better one away; `examples`: how many there are in all; `repeated`:
    prompts that come twice; `without_pair`: questions of which there is nothing to prefer; `cut`:
    of outcomes right and wrong, questions with such texts that were cut, of which none stands by
    itself (wrong: where they could lose to a refusal).
    """

    questions: int
    examples: int
    pairs: dict[PairKind, int]
    over: dict[PairKind, int]
    left: int
    words: dict[PairKind, tuple[float, float]]
    repeated: int
    without_pair: int
    unworded: dict[PairKind, int]
    unusable: dict[PairKind, int]
    cut: dict[Found, int]

    @property
    def why_none(self) -> str:
        """Why there is no pair, and the mend, where there is none."""
        if any(self.over[kind] for kind in DECLINING):
            why, mend = self._left_out(("right over refusal",)) or self._nothing_known
            return f"{why}, and would learn only to decline: {mend}"
        if self.over["right over refusal"]:
            why, mend = self._left_out(DECLINING) or self._nothing_to_decline
            return f"{why}, and would learn never to decline: {mend}"
        why, mend = self._left_out(KINDS) or self._nothing_told_apart
        return f"{why}: {mend}"

    def _left_out(self, kinds: Sequence[PairKind]) -> tuple[str, str] | None:
        """Why pairs of these kinds were left out before the balance, and the mend, if any were."""
        if any(self.unusable[kind] for kind in kinds):
            return (
                "what the model writes is too long, twice with its question, or spells special"
                " tokens",
                "raise sequence_length, or ask others",
            )
        if any(self.unworded[kind] for kind in kinds):
            return (
                "what there is to prefer is of a verifier that takes no wording for a refusal",
                "ask such questions of another verifier",
            )
        return None

    @property
    def _nothing_known(self) -> tuple[str, str]:
        if self.cut["right"]:
            return "what the model gets right is cut before a sentence ends", "raise tokens"
        return "the model knows none of the questions (half of its texts right)", "ask easier ones"

    @property
    def _nothing_to_decline(self) -> tuple[str, str]:
        if self.cut["wrong"]:
            return "what the model gets wrong is cut before a sentence ends", "raise tokens"
        if self.left:
            return (
                "what the model gets wrong is left alone, and there is nothing else to decline",
                "ask some that nobody can answer, or set conversations.factuality.wrong=decline",
            )
        return (
            "there is nothing to decline that the model answers all the same",
            "ask more that nobody can answer, as of things that do not exist",
        )

    @property
    def _nothing_told_apart(self) -> tuple[str, str]:
        if self.left and not self.cut["right"]:
            return (
                "what the model gets wrong is left alone, and it knows nothing of the rest",
                "ask easier ones, beside some that nobody can answer",
            )
        return (
            "the model's samples of each are alike, or cut before a sentence ends",
            "raise tokens, samples or temperature, or ask others",
        )

    def __str__(self) -> str:
        used = [
            f"{number:,} {kind} ({self.words[kind][0]:.0f} and {self.words[kind][1]:.0f} words)"
            for kind, number in self.pairs.items()
            if number
        ]
        left = [f"{number:,} {kind} for balance" for kind, number in self.over.items() if number]
        left += [f"{self.left:,} refusal over wrong, as wrong=leave"] * bool(self.left)
        left += [f"{self.without_pair:,} questions with nothing to prefer"] * bool(
            self.without_pair
        )
        for lost, why in (
            (self.unworded, "pairs without a wording"),
            (self.unusable, "pairs that are too long or spell a special token"),
        ):
            left += [f"{sum(lost.values()):,} {why}"] * any(lost.values())
        left += [f"{self.repeated:,} questions asked twice"] * bool(self.repeated)
        said = f"of {self.questions:,} questions {self.examples:,} examples, from pairs of"
        said += f" {', '.join(used)}" if used else " none"
        return f"{said}; left out: {', '.join(left)}" if left else said
