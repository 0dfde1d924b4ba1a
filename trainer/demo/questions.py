"""Questions about the embedded documentation, and preference pairs of answers, as JSON lines.

Each documented name of the packages gives a few short questions that its own docstring or signature
answers. A tenth of the names, chosen by their hash, is held out with all its questions. Sources are
read with `ast`; no module is imported.
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
    """The first sentence of a docstring, on one line with a full stop.

    None where that is not plain text of `SHORTEST` to `LONGEST` characters: formulas, links and
    code are left out. Roles (:class:`Tensor`) and literals (``x``) become `x`.
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
    """The text of a role as rendered: its title, or its target; `~` hides the target's path."""
    titled = _TITLED.match(text)
    if titled and titled[1]:
        return titled[1]
    if text.startswith("~"):
        return text.rpartition(".")[2].lstrip("~")
    return text.lstrip("!")


HELD_OUT_FRACTION = 0.1
LONGEST_NAME = 44
LONGEST_SIGNATURE = 90
"""Characters, so that two answers fit 256 positions with a vocabulary of 320 tokens."""
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
    """A documented name, such as os.path.join.

    `parameters`: a function's, in brackets, else empty; `summary`: see `summary_line`; `alone`: no
    other name ends in the same word, so that this word alone determines the module.
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
        """Whether all questions about it are held out from training."""
        return _draw("held out", self.name) < HELD_OUT_FRACTION * 2**64


@dataclass(frozen=True, slots=True)
class NameQuestion:
    """A question about a name, with its right answer; `asked`: what it asks for."""

    about: Documented
    asked: Asked
    text: str
    answer: str

    def record(self) -> dict[str, Any]:
        """The question as a line of a set of conversations, in JSON values."""
        messages = [_turn("user", self.text), _turn("assistant", self.answer)]
        about = {"about": self.about.name, "kind": self.about.kind, "asked": self.asked}
        return {"messages": messages, **about}


@dataclass(frozen=True, slots=True)
class QuestionFiles:
    """The folder of questions and of pairs, each a training and a held-out file of JSON lines."""

    folder: Path

    def questions(self, held_out: bool) -> Path:
        """The file of conversations of one question and its answer each."""
        return self.folder / "questions" / _file(held_out)

    def pairs(self, held_out: bool) -> Path:
        """The file of preference pairs: a question with a right and a wrong answer."""
        return self.folder / "pairs" / _file(held_out)

    def counts(self) -> dict[str, int]:
        """The numbers of names, questions and pairs, in all and held out, by label."""
        account: dict[str, int] = json.loads((self.folder / ACCOUNT).read_text(encoding="utf-8"))
        return account


def ensure_question_files(packages: Sequence[str], folder: Path, most_names: int) -> QuestionFiles:
    """The files about `packages` (as in corpus.packages) in `folder`, written if absent.

    Of more names than `most_names`, those with the smallest hashes are used. The bytes follow from
    the packages' sources alone. Raises RecipeError for a package that is not installed, DataError
    where a file would be empty, or the folder cannot be written.
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
    """The public names of these files that have a summary, in order.

    Of several names with one summary only the first counts, as another would give its answer away.
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


def questions_of(one: Documented) -> list[NameQuestion]:
    """The questions for a name's summary, signature and module, those that it can answer."""
    questions = [NameQuestion(one, "summary", _phrased(one.kind, one.name), one.summary)]
    signature = f"`{one.name}{one.parameters}`"
    if one.kind == "function" and "..." not in signature and len(signature) <= LONGEST_SIGNATURE:
        asked = _phrased("signature", one.name)
        questions.append(NameQuestion(one, "signature", asked, signature))
    if one.alone:
        answer = f"`{one.word}` is in `{one.module}`."
        questions.append(NameQuestion(one, "place", _phrased("place", one.word), answer))
    return questions


def pairs_of(questions: Sequence[NameQuestion]) -> Iterator[tuple[Documented, dict[str, Any]]]:
    """A preference pair for each question for a summary or a signature, with the name asked about.

    The rejected answer is that to another name of the same module, also held out if this one is;
    half of the rejected signatures have the right name with the other's parameters. Questions
    without such a name are left out.
    """
    others: defaultdict[tuple[str, str, bool], list[NameQuestion]] = defaultdict(list)
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


def _neighbourhood(question: NameQuestion) -> tuple[str, str, bool]:
    return question.about.module, question.asked, question.about.held_out


def _as_answer_to(question: NameQuestion, other: NameQuestion) -> str:
    name = question.about.name
    if question.asked == "signature" and _draw("own name", name) % 2:
        return f"`{name}{other.about.parameters}`"
    return other.answer


def _draw(purpose: str, name: str) -> int:
    """A reproducible random number below 2^64: the hash of purpose and name."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{name}".encode()).digest()[:8], "big")


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _file(held_out: bool) -> str:
    return "held-out.jsonl" if held_out else "train.jsonl"


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_whole(path, "".join(lines).encode())
