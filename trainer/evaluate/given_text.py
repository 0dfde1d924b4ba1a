"""The documents of files that `--text` names, for suites that read, count and search them."""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.addresses import without_secrets
from trainer.corpus.build.canaries import Canary
from trainer.corpus.inspect.passage_index import PairIndex, PassageIndex
from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.reading.quarantine import Quarantine, Tally
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import RawDocument, ReadOptions
from trainer.corpus.reading.webdataset import is_webdataset, tar_input
from trainer.errors import DataError
from trainer.evaluate.corpora import PassageTally, SearchedDocument
from trainer.evaluate.search_cache import CachedSearches

log = logging.getLogger(__name__)

_KEY = re.compile(r"\bcorpus\.[a-z]")

RULES = 1
"""Raised whenever the same passages would be found elsewhere, so that no older search is used."""


class GivenText(CachedSearches):
    """The documents of files, read as `corpus build` reads them, without any rule.

    All of them count as validation where text is held out (perplexity), and as training text where
    it is searched: nobody knows what of it a model has seen. They are read anew for each pass, a
    document at a time.
    """

    def __init__(self, patterns: Sequence[str]):
        """`patterns`: paths, globs or addresses, in any format of `corpus.files`, and tars.

        Raises DataError, beginning with --text, for one that names no file or is of no format.
        """
        given = [without_secrets(pattern).partition("?")[0] for pattern in patterns]
        names = [pattern.rstrip("/").rpartition("/")[2] for pattern in given]
        self._sources: dict[str, tuple[list[InputFile], ReadOptions]] = {}
        taken: set[str] = set()
        for pattern, name in zip(patterns, names, strict=True):
            files, options = _listed(pattern)
            fresh = [file for file in files if file.path not in taken]
            taken |= {file.path for file in fresh}
            if fresh:
                shown = without_secrets(pattern)
                self._sources[shown if names.count(name) > 1 else name] = fresh, options
        self._said = False

    @property
    def names(self) -> tuple[str, ...]:
        """The files' names, as they were given."""
        return tuple(self._sources)

    @property
    def rules(self) -> tuple[Any, ...]:
        """By which rules it is searched."""
        return ("given", RULES)

    @property
    def fingerprint(self) -> str:
        """24 hex digits that change with the size, time or version of any file."""
        content = {
            name: [file.identity for file in files] for name, (files, _) in self._sources.items()
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]

    def documents(self, split: str) -> Iterator[SearchedDocument]:
        """All documents, for "train" and for "validation", in the files' order.

        Records without a text are left out, and counted in a warning. Raises DataError where no
        document is left, and as `read_file` does.
        """
        counts, blank = dict.fromkeys(self._sources, 0), 0
        with Quarantine() as quarantine:
            for name, (files, options) in self._sources.items():
                for file in files:
                    for raw in _read(file, options, quarantine):
                        if not raw.text.strip():
                            blank += 1
                        else:
                            counts[name] += 1
                            yield SearchedDocument(raw.id, name, split, raw.text)
        tally = quarantine.tally
        if not any(counts.values()):
            why = f": {_with_mend(tally.first)}" if tally.first else ""
            raise DataError(f"--text: {', '.join(self.names)}: holds no text{why}; name another")
        if not self._said:
            self._said = True
            self._say(tally, blank, [name for name, count in counts.items() if not count])

    def _say(self, tally: Tally, blank: int, empty: Sequence[str]) -> None:
        """Say what of the files is not read."""
        if tally.malformed:
            line = "--text: %s of %s records have no text that can be read, the first: %s"
            first = _with_mend(str(tally.first))
            log.warning(line, f"{tally.malformed:,}", f"{tally.records:,}", first)
        if blank:
            log.warning("--text: the text of %s of %s records is blank", *(blank, tally.records))
        if empty:
            log.warning("--text: nothing is read of %s: no text in it", ", ".join(empty))

    def canaries(self) -> list[tuple[str, Canary]]:
        """None: only a corpus that is built says what is planted in it."""
        return []

    def _counted(self, pairs: tuple[tuple[str, str], ...]) -> list[int]:
        index, counts = PairIndex(pairs), Counter[int]()
        for document in self.documents("train"):
            counts.update(index.found_in(document.text))
        return [counts[pair] for pair in range(len(pairs))]

    def _searched(self, passages: tuple[str, ...], limit: int) -> dict[str, Any]:
        index, tally = PassageIndex(passages), PassageTally(len(passages), limit)
        for document in self.documents("train"):
            tally.look(index, document.text, document.id)
        return {"counts": tally.counts, "holders": tally.holders}


def _read(file: InputFile, options: ReadOptions, quarantine: Quarantine) -> Iterator[RawDocument]:
    try:
        yield from read_file(file, options, quarantine)
    except DataError as error:
        raise type(error)(f"--text: {_with_mend(str(error))}") from None


def _with_mend(line: str) -> str:
    """What reading said; where it names keys of a recipe, which no evaluation takes, with a way."""
    if not _KEY.search(line):
        return line
    return (
        f"{line} (a key of `lyceum corpus build`: set it there, and give the corpus that it makes"
        " as --corpus)"
    )


def _listed(pattern: str) -> tuple[list[InputFile], ReadOptions]:
    try:
        if is_webdataset(pattern):
            tars = tar_input([pattern], None, "--text")
            options = ReadOptions(text_members=tars.members, excluded=tars.excluded)
            return [file for files in tars.files.values() for file in files], options
        return list_files([pattern]), ReadOptions()
    except DataError as error:
        said = str(error).removeprefix("--text: ").removeprefix("corpus.files: ")
        raise type(error)(f"--text: {_with_mend(said)}") from None
