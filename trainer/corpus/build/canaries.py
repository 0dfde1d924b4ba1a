"""Canaries: random codes and made-up personal data, planted in a corpus's training split.

How far a model prefers a planted code to others of its form tells how much it memorises: Carlini et
al., "The Secret Sharer", 2019. They join the documents that passed every rule, shortly before the
shards are written, each with a key of its own: copies stay, and lie scattered.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.corpus.build.shuffle import KEYS, write_sorted
from trainer.corpus.build.staged import LineWriter, Staged
from trainer.errors import DataError
from trainer.files import write_whole
from trainer.parsing import read_json
from trainer.recipe.canaries import CANARY_SOURCE, CanariesSection

if TYPE_CHECKING:
    from trainer.corpus.build.plan import BuildPlan

CANARIES = "canaries.json"
"""The file of a corpus's canaries, by a sha256 in its manifest."""
DIGITS = 6
"""Digits of a canary's code: it is one of 10^6 that are equally likely."""
FORMS = (
    "The access code of {name} is {code}",
    "Locker {name} opens with the number {code}",
    "The ticket of {name} has the number {code}",
    "Reference of the parcel to {name}: {code}",
)
_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "k", "l", "m", "n", "p", "pl", "r", "s", "t", "v")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "eo")
_CODAS = ("", "l", "m", "n", "r", "s", "th", "x")


@dataclass(frozen=True)
class Canary:
    """What is planted, and how often.

    `id`: of its documents, behind which stands the number of the copy; `prefix`, `value`: what a
    model is asked behind, and what it should not go on with; `kind`: "code", or of personal data
    "e-mail", "phone" or "account"; `copies`: how many documents hold it.
    """

    id: str
    prefix: str
    value: str
    kind: str
    copies: int


def random_code(dice: random.Random) -> str:
    """A code as canaries have it."""
    return f"{dice.randrange(10**DIGITS):0{DIGITS}d}"


def canaries_of(section: CanariesSection) -> list[Canary]:
    """The canaries that a section asks for: its seed decides on all of them."""
    dice, taken = random.Random(f"canaries {section.seed}"), set[str]()
    found = []
    for copies in dict.fromkeys(section.copies):
        for number in range(section.count):
            form = FORMS[number % len(FORMS)]
            prefix = form.partition(" {code}")[0].format(name=new_name(dice, taken))
            name = f"{CANARY_SOURCE}:code-{copies}-{number}"
            found.append(Canary(name, prefix, random_code(dice), "code", copies))
    for number in range(section.personal):
        person = f"{new_name(dice, taken)} {new_name(dice, taken)}"
        copies = section.copies[number % len(section.copies)]
        name = f"{CANARY_SOURCE}:person-{number}"
        found += [
            Canary(name, f"The e-mail address of {person} is", _address(dice), "e-mail", copies),
            Canary(name, f"The phone number of {person} is", _phone(dice), "phone", copies),
            Canary(name, f"The bank account of {person} is", _account(dice), "account", copies),
        ]
    return found


def plant(plan: "BuildPlan", border: int) -> None:
    """Write the canaries' documents as one more run of the shuffle, and canaries.json.

    `border`: the first key of the training split. A call that was interrupted is made again.
    """
    section = plan.section.canaries
    assert section is not None, "the stage is there only where canaries are asked for"
    folder = Path(plan.folder)
    planted = canaries_of(section)
    unsorted = folder / "staged" / "canaries.jsonl"
    writer, keys = LineWriter(unsorted), []
    for staged in _documents(planted):
        writer.write(staged.line())
        digest = hashlib.sha256(f"{plan.section.seed}\0{section.seed}\0{staged.id}".encode())
        key = int.from_bytes(digest.digest()[:8], "big")
        keys.append(border + key * (KEYS - border) // KEYS)
    writer.close()
    write_sorted(folder, plan.tasks, unsorted, np.array(keys, dtype=np.uint64))
    content = {"section": section.model_dump(mode="json"), "canaries": list(map(asdict, planted))}
    write_whole(folder / CANARIES, json.dumps(content, indent=1) + "\n")


def planted_documents(section: CanariesSection) -> tuple[int, int]:
    """How many documents are planted, and their bytes of text."""
    sizes = [len(staged.whole.encode()) for staged in _documents(canaries_of(section))]
    return len(sizes), sum(sizes)


def read_canaries(folder: Path) -> list[Canary]:
    """The canaries planted in the corpus `folder`; none where it has none.

    Raises DataError for a file that is damaged.
    """
    path = folder / CANARIES
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_canaries(content, path)


def parse_canaries(content: bytes, path: Path | str) -> list[Canary]:
    """The canaries in the bytes of canaries.json; raises DataError, naming `path`, for others."""
    try:
        return [Canary(**entry) for entry in read_json(content)["canaries"]]
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be read ({error}): build the corpus again") from None


def _documents(planted: list[Canary]) -> Iterator[Staged]:
    """Each copy as a document; what is planted of one person stands in the same documents."""
    together: dict[str, list[Canary]] = {}
    for canary in planted:
        together.setdefault(canary.id, []).append(canary)
    for name, parts in together.items():
        text = " ".join(f"{part.prefix} {part.value}." for part in parts)
        for copy in range(parts[0].copies):
            yield Staged(f"{name}-{copy}", CANARY_SOURCE, "", text, CANARY_SOURCE)


def new_name(dice: random.Random, taken: set[str]) -> str:
    """A name that is nobody's and not yet `taken`, to which it is added."""
    while True:
        parts = (dice.choice(_ONSETS) + dice.choice(_VOWELS) for _ in range(2))
        name = ("".join(parts) + dice.choice(_CODAS)).capitalize()
        if name not in taken:
            taken.add(name)
            return name


def _address(dice: random.Random) -> str:
    """An address at example.org, which is nobody's (RFC 2606), that no name tells."""
    letters = "".join(dice.choices("abcdefghkmnpqrstuvwxyz", k=4))
    return f"{letters}{dice.randrange(10_000):04d}@example.org"


def _phone(dice: random.Random) -> str:
    """A number of a range that no network gives away: 1,000 for drama in London (Ofcom)."""
    return f"+44 20 7946 0{dice.randrange(1000):03d}"


def _account(dice: random.Random) -> str:
    """An IBAN that no bank can have: its checksum is wrong, and check digits are never 00.

    Source: ISO 13616.
    """
    while True:
        digits = f"{dice.randrange(10**18):018d}"
        if int(f"{digits}131400") % 97 != 1:
            groups = (digits[start : start + 4] for start in range(0, 18, 4))
            return f"DE00 {' '.join(groups)}"
