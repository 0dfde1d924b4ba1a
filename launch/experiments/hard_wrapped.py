"""How many hard-wrapped documents the default rules keep: as they come, unwrapped by `normalize`,
and with each block of lines joined beforehand, whatever it is.

    python -m launch.experiments.hard_wrapped NAME=FILES ...

FILES: a glob of .txt files, a document each; the folder of R data (`Rdata.rdb`) in Debian's package
r-cran-janeaustenr, a chapter each; or `docstrings`, those of Python's standard library.
"""

import argparse
import glob
import json
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from trainer.corpus.build.corpus import build_corpus
from trainer.corpus.inspect.curation import Curation, load_curation
from trainer.demo.docstrings import read_docstrings
from trainer.demo.packages import resolve_packages, source_files
from trainer.recipe import CorpusSection

R_STRINGS, R_ENCODING = 16, b"UTF-8"
CHAPTER = re.compile(r"(?im)^\s*chapter \w+\.?$")
SHORTEST = 1000
"""Characters: a shorter piece is the entry of a table of contents."""
WAYS = ("as it comes", "unwrap", "joined beforehand")


def documents_of(files: str) -> Iterator[str]:
    """The documents that an argument names."""
    if files == "docstrings":
        for document in read_docstrings(source_files(resolve_packages(("stdlib",)))):
            yield document.text
    elif Path(files).is_dir():
        for novel in novels(Path(files)):
            starts = [0, *(match.start() for match in CHAPTER.finditer(novel)), len(novel)]
            for start, end in pairwise(starts):
                if end - start >= SHORTEST:
                    yield novel[start:end]
    else:
        for path in sorted(glob.glob(files)):
            yield Path(path).read_text(encoding="utf-8", errors="replace")


def novels(folder: Path) -> Iterator[str]:
    """The character vectors in the lazy-load data of an R package, each as lines."""
    data = (folder / "Rdata.rdb").read_bytes()
    at = 0
    while at < len(data):
        unpacking = zlib.decompressobj()
        object_ = unpacking.decompress(data[at + 4 :])
        at = len(data) - len(unpacking.unused_data)
        head = object_.index(R_ENCODING) + len(R_ENCODING)
        kind, count = struct.unpack_from(">II", object_, head)
        assert kind & 0xFF == R_STRINGS, "an object that is no character vector"
        head += 8
        lines = []
        for _ in range(count):
            (size,) = struct.unpack_from(">i", object_, head + 4)
            head += 8
            lines.append(object_[head : head + size].decode("utf-8", "replace"))
            head += size
        yield "\n".join(lines)


def joined(text: str) -> str:
    """Each run of lines without a blank one on one line: what unwrapping is for prose alone."""
    runs = re.split(r"\n[^\S\n]*\n", text.replace("\r\n", "\n").replace("\f", "\n\n"))
    return "\n\n".join(" ".join(run.split()) for run in runs if run.strip())


def curation(documents: list[str], unwrap: bool, folder: Path) -> Curation:
    """The account of a build with the default rules, without the removal of duplicates."""
    path = folder / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    settings: dict[str, Any] = {
        "source": "text",
        "files": [str(path)],
        "vocab": 300,
        "workers": 1,
        "exact_duplicates": False,
        "near_duplicates": None,
        "rules": {"normalize": {"unwrap": unwrap}},
    }
    build_corpus(CorpusSection.model_validate(settings), None, folder / "corpus", progress=False)
    found = load_curation(folder / "corpus")
    assert found is not None, "a build leaves its account"
    return found


def measure(name: str, documents: list[str]) -> None:
    """Print a row of the table for each way, and the rule that drops most in it."""
    for way in WAYS:
        texts = list(map(joined, documents)) if way == "joined beforehand" else documents
        with tempfile.TemporaryDirectory() as folder:
            account = curation(texts, way == "unwrap", Path(folder))
        read, kept = account.funnel[0].documents, account.funnel[-1].documents
        drops = sorted(account.controls, key=lambda one: -one.dropped)[:2]
        most = ", ".join(f"{one.rule} ({one.reason}) {one.dropped}" for one in drops if one.dropped)
        print(f"| {name} | {way} | {read:,} | {kept:,} | {kept / read:.1%} | {most} |", flush=True)


def main() -> None:
    """Print the table for the sources that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", metavar="NAME=FILES")
    print("| source | text | documents | kept | share | dropped most by |")
    print("|---|---|---|---|---|---|")
    for source in parser.parse_args().sources:
        name, _, files = source.partition("=")
        measure(name, list(documents_of(files)))


if __name__ == "__main__":
    main()
