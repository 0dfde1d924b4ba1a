"""A question with its key: what is right in answer to it, and how that is told from a text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.evaluate.respondent import Prompt
from trainer.recipe.questions import VerifierName


@dataclass(frozen=True)
class Question:
    """A question with its key.

    `id`: the item's own, or FILE:NUMBER; `answers`: right answers, the first is shown; () where the
    key is a pattern or a schema, or where nobody can know; `verifier`: how a text is verified;
    `options`: the verifier's own (`trainer.questions.reading` lists them); `kind`: what it asks
    for; `reason`: why nobody can know, as a sentence that may be said in a refusal; `place`: where
    it was read, for errors.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    system: str | None = None
    verifier: VerifierName = "answer"
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str | None = None
    reason: str | None = None
    place: str = ""

    @property
    def prompt(self) -> Prompt:
        """What stands before an answer."""
        return Prompt(self.text, system=self.system)

    @property
    def answerable(self) -> bool:
        """Whether there is a right answer; where there is none, nobody can know."""
        return bool(self.answers) or "pattern" in self.options or "schema" in self.options

    @property
    def named(self) -> str:
        """What an error calls it."""
        return self.place or f"question {self.id}"
