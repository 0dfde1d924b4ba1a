"""Questions about the embedded documentation, and pairs of answers to them, as files of a set.

Each documented name of the packages gives a few short questions whose answers stand in its own
docstring or heading. A tenth of the names, chosen by their hash, is held out with all its
questions. Sources are read with `ast`; no module is imported.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.demo.docstrings import read_docstrings
from trainer.demo.packages import TOPICS, SourceFile, resolve_packages, source_files
from trainer.errors import DataError
from trainer.files import write_whole

SHORTEST, LONGEST = 20, 90

_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`([^`]*)`")
_TITLED = re.compile(r"^(.*?)\s*<[^<>]*>$")
_SENTENCE_END = re.compile(r"(?<=[\w)`\"'])\.(?=\s+[A-Z`\"'(]|$)")
_ABBREVIATIONS = ("e.g", "i.e", "etc", "vs", "cf")


def summary_line(docstring: str) -> str | None:
    """The first sentence of its first paragraph, on one line and with a full stop; None where that
    is no sentence of `SHORTEST` to `LONGEST` characters of plain text.

    Roles (:class:`Tensor`) and literals (``x``) become `x`; a summary with a formula, a link, or a
    line of code is none.
    """
    paragraph = " ".join(docstring.strip().split("\n\n", 1)[0].split())
    text = _without_markup(_first_sentence(paragraph)).strip()
    if not text or not text[0].isalnum() or not (text[-1].isalnum() or text[-1] in ")`\"'"):
        return None
    if any(part in text for part in ("::", "->", ">>>", "http", "\\", "|", "<", "--", "==", "***")):
        return None
    if not text.isascii() or text.count("`") % 2 or " " not in text:
        return None
    sentence = f"{text[0].upper()}{text[1:]}."
    return sentence if SHORTEST <= len(sentence) <= LONGEST else None


def _first_sentence(paragraph: str) -> str:
    for end in _SENTENCE_END.finditer(paragraph):
        before = paragraph[: end.start()]
        if not before.endswith(_ABBREVIATIONS):
            return before
    return paragraph


def _without_markup(text: str) -> str:
    text = _ROLE.sub(lambda role: f"`{_target(role[1])}`", text)
    return text.replace("``", "`").replace("**", "")


def _target(text: str) -> str:
    """What a reader sees of a role: its title, or its target without `~` and the path it hides."""
    titled = _TITLED.match(text)
    if titled and titled[1]:
        return titled[1]
    if text.startswith("~"):
        return text.rpartition(".")[2].lstrip("~")
    return text.lstrip("!")


HELD_OUT_SHARE = 0.1
LONGEST_NAME = 44
LONGEST_SIGNATURE = 90
"""Characters: with a vocabulary of 320 tokens, two answers are to fit 256 positions."""
PHRASINGS = {
    "function": ("What does `{}` do?", "What is `{}` for?", "Describe `{}`."),
    "class": ("What is the class `{}` for?", "What is a `{}`?", "Describe the class `{}`."),
    "module": ("What is the module `{}` for?", "Describe the module `{}`."),
    "signature": ("What is the signature of `{}`?", "How is `{}` called?"),
    "place": ("Which module is `{}` in?", "Where is `{}` defined?"),
}
ACCOUNT = "sets.json"

QuestionKind = Literal["function", "class", "module"]
Asked = Literal["summary", "signature", "place"]


@dataclass(frozen=True, slots=True)
class Documented:
    """A name with a docstring: its module, what it is, its parameters in brackets, its summary.

    `alone`: no other name ends in the same word, so that this word tells its module.
    """

    name: str
    module: str
    kind: QuestionKind
    parameters: str
    summary: str
    alone: bool = False

    @property
    def word(self) -> str:
        """The name's last part."""
        return self.name.rpartition(".")[2]

    @property
    def held_out(self) -> bool:
        """Whether no question about it is trained on."""
        return _draw("held out", self.name) < HELD_OUT_SHARE * 2**64


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a name and its right answer; `asked` is what it asks for."""

    about: Documented
    asked: Asked
    text: str
    answer: str

    def record(self) -> dict[str, Any]:
        """As a line of a set of conversations."""
        messages = [_turn("user", self.text), _turn("assistant", self.answer)]
        about = {"about": self.about.name, "kind": self.about.kind, "asked": self.asked}
        return {"messages": messages, **about}


@dataclass(frozen=True, slots=True)
class QuestionFiles:
    """The four sets of a folder."""

    folder: Path

    def questions(self, held_out: bool) -> Path:
        """Conversations of one question each."""
        return self.folder / "questions" / _file(held_out)

    def pairs(self, held_out: bool) -> Path:
        """The same questions with a right and a wrong answer."""
        return self.folder / "pairs" / _file(held_out)

    def counts(self) -> dict[str, int]:
        """How many names, questions and pairs there are, those held out apart."""
        account: dict[str, int] = json.loads((self.folder / ACCOUNT).read_text(encoding="utf-8"))
        return account


def ensure_question_files(packages: Sequence[str], folder: Path, most_names: int) -> QuestionFiles:
    """The sets about `packages` (as in corpus.packages) in `folder`, written where absent.

    Of more names than `most_names`, those of the smallest hashes are taken. The bytes follow from
    the packages' sources alone. Raises RecipeError for a package that is not there, DataError
    where one side would stay empty, or the folder cannot be written.
    """
    made = QuestionFiles(folder)
    if (folder / ACCOUNT).is_file():
        return made
    names = documented_names(source_files(resolve_packages(packages)))
    names = sorted(names, key=lambda one: _draw("taken", one.name))[:most_names]
    questions = [question for one in names for question in questions_of(one)]
    pairs = list(pairs_of(questions))
    counts = {"names": len(names), "names held out": sum(one.held_out for one in names)}
    try:
        for held_out in (False, True):
            asked = [one.record() for one in questions if one.about.held_out == held_out]
            preferred = [pair for about, pair in pairs if about.held_out == held_out]
            if not asked or not preferred:
                raise DataError(
                    f"{', '.join(packages)}: {len(names)} documented names are too few to ask"
                    " about: name more in corpus.packages"
                )
            _write_lines(made.questions(held_out), asked)
            _write_lines(made.pairs(held_out), preferred)
            behind = " held out" if held_out else ""
            counts |= {f"questions{behind}": len(asked), f"pairs{behind}": len(preferred)}
        write_whole(folder / ACCOUNT, (json.dumps(counts, indent=1) + "\n").encode())
    except OSError as error:
        raise DataError(f"cannot write questions to {folder}: {error.strerror or error}") from None
    return made


def documented_names(files: Iterable[SourceFile]) -> list[Documented]:
    """What of these files can be asked about, in their order: public names with a short summary.

    Of several names with one summary the first is taken, as the others would give its answer away.
    Raises DataError for a file that cannot be read.
    """
    found: dict[str, Documented] = {}
    words: Counter[str] = Counter()
    for file in files:
        if file.package == TOPICS or not _is_public(file.module):
            continue
        for document in read_docstrings([file]):
            if not _is_public(document.id):
                continue
            words[document.id.rpartition(".")[2]] += 1
            summary = summary_line(document.text)
            if summary is None or len(document.id) > LONGEST_NAME:
                continue
            parameters = document.heading.strip().removeprefix(document.id)
            kind: QuestionKind = "function" if parameters else "class"
            kind = "module" if document.id == file.module else kind
            one = Documented(document.id, file.module, kind, parameters, summary)
            found.setdefault(summary.casefold(), one)
    return [
        Documented(one.name, one.module, one.kind, one.parameters, one.summary, alone)
        for one in found.values()
        for alone in [words[one.word] == 1 and one.kind != "module"]
    ]


def questions_of(one: Documented) -> list[Question]:
    """What it does or is for, how it is called, and where it is, each in one of its phrasings."""
    questions = [Question(one, "summary", _phrased(one.kind, one.name), one.summary)]
    signature = f"`{one.name}{one.parameters}`"
    if one.kind == "function" and "..." not in signature and len(signature) <= LONGEST_SIGNATURE:
        asked = _phrased("signature", one.name)
        questions.append(Question(one, "signature", asked, signature))
    if one.alone:
        answer = f"`{one.word}` is in `{one.module}`."
        questions.append(Question(one, "place", _phrased("place", one.word), answer))
    return questions


def pairs_of(questions: Sequence[Question]) -> Iterator[tuple[Documented, dict[str, Any]]]:
    """The questions for summaries and signatures, with a right and a wrong answer.

    The wrong one is plausible: it belongs to another name of the same module. Every other wrong
    signature has the name asked for before the other's parameters. Held-out names lend theirs only
    to each other. Questions for which there is none are left out.
    """
    others: defaultdict[tuple[str, str, bool], list[Question]] = defaultdict(list)
    for question in questions:
        others[_neighbourhood(question)].append(question)
    for question in questions:
        wrong = {_as_answer_to(question, other) for other in others[_neighbourhood(question)]}
        wrong = {
            text
            for text in wrong - {question.answer}
            if question.asked == "summary" or len(text) <= LONGEST_SIGNATURE
        }
        if question.asked == "place" or not wrong:
            continue
        rejected = min(wrong, key=lambda text: _draw(question.text, text))
        yield (
            question.about,
            {
                "prompt": [_turn("user", question.text)],
                "chosen": [_turn("assistant", question.answer)],
                "rejected": [_turn("assistant", rejected)],
                "about": question.about.name,
                "asked": question.asked,
            },
        )


def _is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def _phrased(kind: str, name: str) -> str:
    phrasings = PHRASINGS[kind]
    return phrasings[_draw(kind, name) % len(phrasings)].format(name)


def _neighbourhood(question: Question) -> tuple[str, str, bool]:
    return question.about.module, question.asked, question.about.held_out


def _as_answer_to(question: Question, other: Question) -> str:
    name = question.about.name
    if question.asked == "signature" and _draw("own name", name) % 2:
        return f"`{name}{other.about.parameters}`"
    return other.answer


def _draw(purpose: str, name: str) -> int:
    """A number below 2**64 that looks random and is always the same."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{name}".encode()).digest()[:8], "big")


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _file(held_out: bool) -> str:
    return "held-out.jsonl" if held_out else "train.jsonl"


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_whole(path, "".join(lines).encode())
