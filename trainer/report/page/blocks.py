"""What a page is made of. All texts are plain: a document with markup in it is shown as text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from trainer.report.page.table import DataTable

_BOX = 60
"""Characters of a step's text that its box takes."""
_FILE = 1000
"""Characters from which on a text to copy is no command."""


@dataclass(frozen=True)
class Prose:
    """Text; an empty line begins a new paragraph, and what `stands so` is set as code."""

    kind: ClassVar[str] = "prose"
    text: str

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs that are not empty."""
        return [one.strip() for one in self.text.split("\n\n") if one.strip()]


@dataclass(frozen=True)
class Drawing:
    """A drawing of `trainer.report.plots`, which has its own title and description."""

    kind: ClassVar[str] = "drawing"
    svg: str
    """Markup, inserted as it is: a `<div class="plot">` as the functions of plots return it."""
    caption: str = ""

    def __post_init__(self) -> None:
        """Nothing but a drawing of ours gets past the escaping."""
        assert self.svg.startswith('<div class="plot">'), (
            "a drawing comes from trainer.report.plots"
        )


@dataclass(frozen=True)
class Samples:
    """Answers to one prompt side by side, such as before and after; one below the other on a phone.

    `texts`: by label, in order; `verdicts`: of some labels, right, declined or wrong, where a comma
    may lead on ("right, reward 1"), or another word.
    """

    kind: ClassVar[str] = "samples"
    prompt: str
    texts: Mapping[str, str]
    verdicts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """A command or a file to copy, shown line by line as it is."""

    kind: ClassVar[str] = "command"
    text: str
    caption: str = ""

    @property
    def words(self) -> list[str]:
        """The words, in which no line is broken where they fit, and what is between them.

        A file comes as one piece.
        """
        text = self.text.strip("\n")
        return re.split(r"(\s+)", text) if len(text) < _FILE else [text]


@dataclass(frozen=True)
class KeyFigures:
    """The few numbers that a reader takes along: (what, number with its unit, remark)."""

    kind: ClassVar[str] = "key_figures"
    figures: Sequence[tuple[str, str, str]]

    @staticmethod
    def parts(number: str) -> tuple[str, str]:
        """A number and its unit, "1.4 GiB"; what has several numbers, "6 h 5 min", is whole."""
        head, _, unit = number.strip().partition(" ")
        return (number.strip(), "") if re.search(r"\d", unit) else (head, unit)


@dataclass(frozen=True)
class StepChain:
    """A chain of steps in order, such as the stages of a run: (name, what it did)."""

    kind: ClassVar[str] = "steps"
    steps: Sequence[tuple[str, str]]

    @property
    def is_told(self) -> bool:
        """Whether the texts are sentences, which stand below each other and not in boxes."""
        return any(len(text) > _BOX for _, text in self.steps)


@dataclass(frozen=True)
class Columns:
    """Blocks side by side where there is room, such as one of each run."""

    kind: ClassVar[str] = "columns"
    blocks: Sequence["PageBlock"]


@dataclass(frozen=True)
class Folded:
    """Blocks below a line that opens them, for what is long and rarely read; open in print."""

    kind: ClassVar[str] = "folded"
    title: str
    blocks: Sequence["PageBlock"]


PageBlock = (
    Prose | DataTable | Drawing | Samples | Command | KeyFigures | StepChain | Columns | Folded
)


@dataclass(frozen=True)
class PageSection:
    """A part of the page, listed in its contents. A Prose that comes first is its lead.

    `note`: what a reader should know of how it was measured, or what is missing, in small type.
    """

    title: str
    blocks: Sequence[PageBlock]
    note: str | None = None


@dataclass(frozen=True)
class Page:
    """A page: `lead` says in a few sentences what it shows; `footer` where it comes from."""

    title: str
    lead: str
    sections: Sequence[PageSection]
    footer: str = ""
