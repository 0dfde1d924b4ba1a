"""The bank's files: sections of questions of one kind, as text that a person can read and mend.

A section begins with `[kind: what stands behind the colon]`. Lines that begin with "? " are its
wordings, in which `{}` is the subject, or `{pool}` an invented name; "! " a whole question that
nobody can answer; "- " an invented subject; `subject = answer | other name` a fact. Remarks stand
behind "#".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_HEAD = re.compile(r"\[(?P<kind>[^:\]]+): (?P<about>[^\]]+)\]")
_A = re.compile(r"\b([Aa]) (?=(?!uni|use|eu|one\b)[aeiouAEIOU])")
NOTHING_INVENTED = "-"
"""Behind the colon where no invented subject would make sense."""
UNKNOWABLE = "unknowable"
"""The file of questions that nobody can answer; behind the colon is why."""


@dataclass(frozen=True)
class Fact:
    """A subject and what is right of it, the best name first."""

    subject: str
    answers: tuple[str, ...]


@dataclass
class BankSection:
    """A kind of question: `about` is the pool of its invented subjects, or why nobody can know."""

    kind: str
    about: str
    wordings: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)


@cache
def sections_of(folder: Path) -> dict[str, tuple[BankSection, ...]]:
    """The sections of each file of a folder, by the file's name without its ending."""
    files = sorted(folder.glob("*.txt"))
    return {file.stem: tuple(_sections(file)) for file in files}


def asked(wording: str, subject: str) -> str:
    """A wording with its subject, "a" before a vowel as "an", and a capital letter in front."""
    text = _A.sub(r"\1n ", wording.replace("{}", subject))
    return text[0].upper() + text[1:]


def _sections(file: Path) -> Iterator[BankSection]:
    section: BankSection | None = None
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if head := _HEAD.fullmatch(line):
            if section is not None:
                yield section
            section = BankSection(head["kind"], head["about"])
            continue
        assert section is not None, f"{file}: {line!r} stands before the first section"
        if line.startswith("? "):
            section.wordings.append(line[2:])
        elif line.startswith("! "):
            section.questions.append(line[2:])
        elif line.startswith("- "):
            section.invented.append(line[2:])
        else:
            subject, sign, answers = line.rpartition(" = ")
            assert sign, f"{file}: {line!r} has no answer"
            section.facts.append(Fact(subject, tuple(answers.split(" | "))))
    if section is not None:
        yield section
