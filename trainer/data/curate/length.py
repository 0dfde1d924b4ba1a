"""The shortest document that a corpus takes."""

from dataclasses import dataclass

from trainer.data.curate.rule import Outcome, dropped, kept


@dataclass(frozen=True)
class MinimumLength:
    """Drops texts of fewer than `characters`, white space around them not counted; empty ones
    always.
    """

    characters: int
    name: str = "minimum length"

    def __call__(self, text: str, document: str) -> Outcome:
        """Judge one text by its length."""
        length = len(text.strip())
        limit = max(self.characters, 1)
        return dropped("too short", length, limit) if length < limit else kept(text)
