"""What a model wrote when it was asked a question several times, and what that came to."""

from dataclasses import dataclass

from trainer.questions.question import Question
from trainer.questions.verdict import Found


@dataclass(frozen=True)
class AnswerSample:
    """One text of a model in answer to a question.

    `ended`: whether it came to an end of its own; `outcome`, `why`: its verdict.
    """

    text: str
    ended: bool
    outcome: Found
    why: str


@dataclass(frozen=True)
class SampledQuestion:
    """A question, and a model's texts in answer to it, in the order of their draws."""

    question: Question
    samples: tuple[AnswerSample, ...]

    @property
    def right_share(self) -> float:
        """The share of the texts that are right, from 0 to 1; 0 where nobody can know."""
        if not self.question.answerable or not self.samples:
            return 0.0
        return sum(sample.outcome == "right" for sample in self.samples) / len(self.samples)
