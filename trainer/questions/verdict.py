"""What a verifier finds of a text."""

from dataclasses import dataclass
from typing import Literal

Found = Literal["right", "declined", "wrong"]


@dataclass(frozen=True)
class Verdict:
    """A text's outcome, and why, in a few words."""

    outcome: Found
    why: str
