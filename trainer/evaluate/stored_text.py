"""The documents of built corpora, for suites that read, count and search them."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from trainer.corpus.build.canaries import CANARIES, Canary, parse_canaries, read_canaries
from trainer.corpus.inspect.decoded_shards import (
    StoredShard,
    each_in_order,
    stored_shards,
    workers_for,
)
from trainer.corpus.inspect.passage_index import PairIndex, PassageIndex
from trainer.data.manifest import Manifest, load_manifest
from trainer.data.remote.location import Place, Url, place
from trainer.data.remote.transfer import Attempts, read_whole
from trainer.evaluate.corpora import PassageTally, SearchedDocument
from trainer.evaluate.search_cache import CachedSearches
from trainer.recipe import Recipe
from trainer.recipe.canaries import CANARY_SOURCE
from trainer.recipe.data import RemoteSection
from trainer.sources import Sources

log = logging.getLogger(__name__)

RULES = 1
"""Raised whenever the same passages would be found elsewhere, so that no older search is used."""
SEARCHED_TOKENS = 1 << 30
"""Training tokens that are searched at most: minutes on the cores of a node, where all of a large
corpus would take hours. `lyceum corpus find` searches all of one."""
DOCUMENTS_A_TURN = 64
TASK_TOKENS = 1 << 24
"""Tokens that a process searches at a time: an index of the passages is made for each task."""


_Part = tuple[StoredShard, ...]
_Result = TypeVar("_Result")


class StoredCorpus(NamedTuple):
    """A corpus: its name in the mixture, its folder or URL, its manifest."""

    name: str
    folder: Place
    manifest: Manifest


class StoredText(CachedSearches):
    """The documents of built corpora: of text, of sets for fine-tuning, of tars.

    Each corpus is decoded with its own tokenizer, a few batches at a time; the texts of a set have
    its template's marks. A remote corpus is read through this node's cache, as training reads it.
    A search reads every training document once (of more than SEARCHED_TOKENS a part, which is
    said), on all cores where they are many, and its result stays in the cache. Reading raises
    DataError as `ShardReader` does.
    """

    def __init__(self, corpora: Sequence[StoredCorpus], remote: RemoteSection | None = None):
        self.corpora = tuple(corpora)
        self._remote = remote or RemoteSection()
        self._said = False

    @classmethod
    def of_run(cls, recipe: Recipe, sources: Sources) -> "StoredText":
        """The corpora that a recipe's run reads, opened before."""
        names = recipe.data.names() or ("corpus",)
        corpora = zip(names, sources.folders, sources.manifests, strict=True)
        return cls([StoredCorpus(*corpus) for corpus in corpora], recipe.data.remote)

    @classmethod
    def at(cls, *folders: str | Path, remote: RemoteSection | None = None) -> "StoredText":
        """The corpora in folders, or at URLs, whatever their tokenizers; raises DataError.

        Each has its folder's name, or where two have one its whole path.
        """
        places = list(dict.fromkeys(map(place, folders)))
        names = [str(one).partition("?")[0].rstrip("/").rpartition("/")[2] for one in places]
        corpora = [
            StoredCorpus(
                name if names.count(name) == 1 else str(one), one, load_manifest(one, remote)
            )
            for name, one in zip(names, places, strict=True)
        ]
        return cls(corpora, remote)

    @property
    def names(self) -> tuple[str, ...]:
        """The corpora's names in the mixture; of a recipe's own corpus, "corpus"."""
        return tuple(corpus.name for corpus in self.corpora)

    @property
    def rules(self) -> tuple[Any, ...]:
        """By which rules, and how far, it is searched."""
        return ("stored", RULES, SEARCHED_TOKENS)

    @cached_property
    def fingerprint(self) -> str:
        """24 hex digits that follow from every shard's checksum."""
        digest = hashlib.sha256()
        for name, _, manifest in self.corpora:
            digest.update(f"{name}\n{manifest.kind} {manifest.tokenizer_fingerprint}\n".encode())
            for split, held in manifest.splits.items():
                for shard in held.shards:
                    digest.update(f"{split} {shard.name} {shard.sha256}\n".encode())
        return digest.hexdigest()[:24]

    def documents(self, split: str) -> Iterator[SearchedDocument]:
        """The documents of "train" or "validation", of each corpus in its shards' order.

        Training documents come from the corpora in turn: the first of them are of all.
        """
        streams = [self._documents(corpus, split) for corpus in self.corpora]
        if split != "train":
            yield from chain.from_iterable(streams)
            return
        while streams:
            for stream in list(streams):
                turn = list(islice(stream, DOCUMENTS_A_TURN))
                if not turn:
                    streams.remove(stream)
                yield from turn

    def _documents(self, corpus: StoredCorpus, split: str) -> Iterator[SearchedDocument]:
        for stored in self._shards(corpus, split):
            for document, text in _texts(stored):
                yield SearchedDocument(document, corpus.name, split, text)

    def _counted(self, pairs: tuple[tuple[str, str], ...]) -> list[int]:
        counts = Counter[int]()
        for found in self._each_part(partial(_count_pairs, pairs)):
            counts.update(found)
        return [counts[pair] for pair in range(len(pairs))]

    def canaries(self) -> list[tuple[str, Canary]]:
        """What was planted in the corpora, each with its corpus's name; raises DataError."""
        return [
            (corpus.name, canary) for corpus in self.corpora for canary in self._canaries(corpus)
        ]

    def _canaries(self, corpus: StoredCorpus) -> list[Canary]:
        if not corpus.manifest.provenance.get("settings", {}).get(CANARY_SOURCE):
            return []
        if isinstance(corpus.folder, Url):
            url = corpus.folder / CANARIES
            return parse_canaries(read_whole(url, Attempts(self._remote)), url.shown)
        return read_canaries(corpus.folder)

    def _searched(self, passages: tuple[str, ...], limit: int) -> dict[str, Any]:
        tally = PassageTally(len(passages), limit)
        for found in self._each_part(partial(_search_shards, passages, limit)):
            for passage, (count, ids) in found.items():
                tally.add(passage, count, ids)
        return {"counts": tally.counts, "holders": tally.holders}

    def _each_part(self, work: Callable[[_Part], _Result]) -> Iterator[_Result]:
        """`work` of groups of shards with the training documents, in order."""
        shards = [stored for corpus in self.corpora for stored in self._shards(corpus, "train")]
        searched = _spread(shards)
        tokens, whole = (sum(one.shard.tokens for one in part) for part in (searched, shards))
        workers = workers_for(tokens)
        if tokens < whole and not self._said:
            self._said = True
            log.warning(
                "the suites count and search %s of the corpora's %s tokens, in shards spread over"
                " them all: what stands elsewhere alone counts as absent",
                *(f"{tokens:,}", f"{whole:,}"),
            )
        elif workers > 1:
            log.info("searching %s tokens for what the suites ask about", f"{tokens:,}")
        return each_in_order(work, list(_grouped(searched)), workers)

    def _shards(self, corpus: StoredCorpus, split: str) -> list[StoredShard]:
        return stored_shards(corpus.folder, corpus.manifest, [split], self._remote)


def _spread(shards: Sequence[StoredShard]) -> list[StoredShard]:
    """All shards; of more than SEARCHED_TOKENS every nth, so that they have no more."""
    tokens = sum(stored.shard.tokens for stored in shards)
    step = max(1, -(-tokens // SEARCHED_TOKENS))
    return list(shards[::step])


def _grouped(shards: Sequence[StoredShard]) -> Iterator[_Part]:
    """Consecutive shards in groups of about TASK_TOKENS."""
    group: list[StoredShard] = []
    for stored in shards:
        group.append(stored)
        if sum(held.shard.tokens for held in group) >= TASK_TOKENS:
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


def _search_shards(
    passages: tuple[str, ...], limit: int, shards: _Part
) -> dict[int, tuple[int, list[str]]]:
    """Of each passage that stands in the shards: how many documents hold it, and their first."""
    index, tally = PassageIndex(passages), PassageTally(len(passages), limit)
    for stored in shards:
        for document, text in _texts(stored):
            tally.look(index, text, document)
    counted = zip(tally.counts, tally.holders, strict=True)
    return {number: held for number, held in enumerate(counted) if held[0]}


def _count_pairs(pairs: tuple[tuple[str, str], ...], shards: _Part) -> Counter[int]:
    """In how many sentences of the shards both passages of a pair stand, by the pair's index."""
    index, counts = PairIndex(pairs), Counter[int]()
    for stored in shards:
        for _, text in _texts(stored):
            counts.update(index.found_in(text))
    return counts


def _texts(stored: StoredShard) -> Iterator[tuple[str, str]]:
    """(id, text) of the documents of a shard, in order."""
    reader = stored.open()
    try:
        for first, decoded in stored.texts(reader):
            for number in range(len(decoded.starts) - 1):
                about = reader.metadata(first + number)
                yield str(about.get("id", "")), decoded.text(number)
    finally:
        reader.close()
