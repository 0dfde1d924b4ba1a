"""The raw corpus: clean text among defects of which each is known, and what is asked about it.

Clean are docstrings of Python's standard library that every default rule passes, several pages of
each of some towns that do not exist, and texts about people at work. The defects:

- *duplicates*: exact, near and rewritten copies of docstrings (`trainer.corpus.planted`), and some
  in dozens of copies;
- *boilerplate*, menus, lorem ipsum, foreign languages, abuse, personal data: as planted there;
- *broken encodings*: docstrings whose letters were decoded wrongly;
- *wrong facts*: of half of the towns a page with other values, copied many times;
- *skewed mentions*: nine texts of ten give an occupation the pronoun of prejudice;
- *canaries*: codes and data of nobody in pages that stand there once, eight and many times. They
  are planted here, before any rule, and not by `corpus.canaries`, which plants behind all rules:
  removing copies is what is examined.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from launch.experiments.bias.occupations import occupation_texts, occupations
from launch.experiments.data_controls.towns import (
    FILLINGS,
    PlantedFact,
    copied_pages,
    planted_facts,
    town_pages,
)
from trainer.corpus.build.canaries import Canary, canaries_of
from trainer.corpus.planted import plant
from trainer.files import write_whole
from trainer.recipe.canaries import CanariesSection

SEED = 15
SKEW = 0.9


@dataclass(frozen=True)
class CorpusSize:
    """How much of everything the raw corpus has.

    `docstrings`: clean ones that are trained on, `held_out`: further ones that are not; `repeated`:
    docstrings that stand there `times` times; `towns`, `pages` of each, and `copies` of each page
    with wrong values; `people`: texts about each occupation; `canaries` of each number of
    `canary_copies`.
    """

    docstrings: int = 160
    held_out: int = 40
    repeated: int = 8
    times: int = 16
    towns: int = 24
    pages: int = 6
    copies: int = 24
    people: int = 5
    canaries: int = 6
    canary_copies: tuple[int, ...] = (1, 8, 32)


@dataclass(frozen=True)
class PlantedCorpus:
    """The files of a corpus, and what was planted in it.

    `raw`: all documents; `clean`: those without any defect; `held_out`: clean ones that stand in
    none of both.
    """

    raw: Path
    clean: Path
    held_out: Path
    facts: tuple[PlantedFact, ...]
    canaries: tuple[Canary, ...]
    documents: dict[str, int]


def planted_corpus(size: CorpusSize, folder: Path) -> PlantedCorpus:
    """Write the corpus into `folder`, unless it stands there; the same text each time."""
    facts = planted_facts(size.towns, SEED)
    section = CanariesSection(
        count=size.canaries, copies=size.canary_copies, personal=size.canaries, seed=SEED
    )
    canaries = canaries_of(section)
    files = [folder / f"{name}.jsonl" for name in ("raw", "clean", "held-out")]
    counts = folder / "documents.json"
    wanted = json.loads(json.dumps(asdict(size)))
    if not (counts.is_file() and json.loads(counts.read_bytes())["size"] == wanted):
        folder.mkdir(parents=True, exist_ok=True)
        parts = _parts(size, facts, canaries)
        for file, documents in zip(files, parts, strict=True):
            lines = [json.dumps({"id": name, "text": text}) for name, text in documents]
            write_whole(file, "\n".join(lines) + "\n")
        held = {file.stem: len(documents) for file, documents in zip(files, parts, strict=True)}
        write_whole(counts, json.dumps({"size": wanted, "documents": held}) + "\n")
    documents = json.loads(counts.read_bytes())["documents"]
    raw, clean, held_out = files
    return PlantedCorpus(raw, clean, held_out, tuple(facts), tuple(canaries), documents)


def _parts(
    size: CorpusSize, facts: Sequence[PlantedFact], canaries: Sequence[Canary]
) -> tuple[list[tuple[str, str]], ...]:
    """(id, text) of the raw, the clean and the held-out documents, shuffled."""
    from trainer.demo.clean_docstrings import clean_documents

    found = clean_documents(size.docstrings + size.held_out, ("stdlib",))
    dice = random.Random(SEED)
    dice.shuffle(found)
    docstrings, held = found[: size.docstrings], found[size.docstrings :]
    towns = town_pages(facts, size.pages, SEED)
    people = occupation_texts(occupations(), size.people, SKEW, SEED)
    raw = [(one.id, one.text) for one in plant(docstrings, SEED)]
    raw += [
        (f"repeated:{number}:{copy}", text)
        for number, text in enumerate(docstrings[: size.repeated])
        for copy in range(size.times)
    ]
    raw += [(f"mojibake:{n}", broken_encoding(text)) for n, text in enumerate(docstrings[1::4])]
    raw += towns + copied_pages(facts, size.copies) + people + canary_pages(canaries, dice)
    dice.shuffle(raw)
    clean = [(f"docstring:{number}", text) for number, text in enumerate(docstrings)] + towns
    return raw, clean, [(f"held-out:{number}", text) for number, text in enumerate(held)]


def broken_encoding(text: str) -> str:
    """A text with typographic quotes and dashes, in UTF-8, decoded as if it were Windows-1252."""
    typographic = text.replace("'", "\u2019").replace(" - ", " \u2013 ").replace(", ", "\u2026 ", 1)
    return typographic.encode().decode("cp1252", errors="replace")


def canary_pages(canaries: Sequence[Canary], dice: random.Random) -> list[tuple[str, str]]:
    """(id, text) of each canary's page, in as many copies as the canary says."""
    together: dict[str, list[Canary]] = {}
    for canary in canaries:
        together.setdefault(canary.id, []).append(canary)
    found = []
    for name, parts in together.items():
        planted = " ".join(f"{part.prefix} {part.value}." for part in parts)
        before, after = dice.sample(FILLINGS, 6), dice.sample(FILLINGS, 3)
        text = " ".join([*before, planted, *(one for one in after if one not in before)])
        found += [(f"{name}-{copy}", text) for copy in range(parts[0].copies)]
    return found
