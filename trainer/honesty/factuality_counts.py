"""What became of the questions of `conversations.factuality`: its pairs, and what is left out."""

from dataclasses import dataclass
from typing import Literal, get_args

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
    `left`: refusal over wrong, left out as `wrong: leave` says;
    `words`: mean words of the chosen and of the rejected texts of each kind, which tell whether
    length gives the better one away; `examples`: how many there are in all; `repeated`: prompts
    that come twice; `without_pair`: questions of which there is nothing to prefer;
    `unworded`: pairs whose question's verifier takes no wording for a refusal.
    """

    questions: int
    examples: int
    pairs: dict[PairKind, int]
    over: dict[PairKind, int]
    left: int
    words: dict[PairKind, tuple[float, float]]
    repeated: int
    without_pair: int
    unworded: int

    @property
    def why_none(self) -> str:
        """Why there is no pair, and the mend, where there is none."""
        if self.unworded:
            return (
                "their verifier takes no wording for a refusal, and the model is never both right"
                " and wrong: ask some of another verifier"
            )
        if any(self.over[kind] for kind in DECLINING):
            return "the model is right nowhere, and would learn only to decline: ask easier ones"
        if self.left and self.over["right over refusal"]:
            return (
                "what the model gets wrong is left alone, and of the rest there is nothing to"
                " decline: ask some that nobody can answer, or set"
                " conversations.factuality.wrong=decline"
            )
        if self.left:
            return (
                "what the model gets wrong is left alone, and it knows nothing of the rest: ask"
                " easier ones, beside some that nobody can answer"
            )
        if self.over["right over refusal"]:
            return (
                "the model is wrong nowhere, and would learn never to decline: ask some that it"
                " gets wrong or that nobody can answer"
            )
        return (
            "the model's samples of each are alike, cut before a sentence ends, or spell special"
            " tokens: raise tokens, samples or temperature, or ask others"
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
        left += [f"{self.unworded:,} pairs without a wording"] * bool(self.unworded)
        left += [f"{self.repeated:,} questions asked twice"] * bool(self.repeated)
        said = f"of {self.questions:,} questions {self.examples:,} examples, from pairs of"
        said += f" {', '.join(used)}" if used else " none"
        return f"{said}; left out: {', '.join(left)}" if left else said
