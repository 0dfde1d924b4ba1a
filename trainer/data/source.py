"""One corpus of the mixture: the reading position in it, and the block that is open."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trainer.data.manifest import KINDS, Manifest, Shard
from trainer.data.order import shard_order
from trainer.data.packing import PackingPlan, plan_block
from trainer.data.references import read_references
from trainer.data.remote.location import Place
from trainer.data.token_flags import SEGMENT
from trainer.errors import DataError


class OpenDocuments(Protocol):
    """What a source needs of an open shard; `ShardReader` implements it."""

    @property
    def lengths(self) -> np.ndarray:
        """Stored tokens of each document, int64 [documents]."""

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        """Tokens `start:stop` of a document, [stop - start] in the stored type."""

    def metadata(self, index: int) -> dict[str, Any]:
        """The JSON stored with a document."""

    def close(self) -> None:
        """Close the shard's files."""


OpenShard = Callable[[Any, Shard, str], OpenDocuments]
"""Opens a shard, given the corpus's folder or URL, the shard, and the stored type of its tokens."""


class ReadsAhead(Protocol):
    """Prefetches remote shards; given in advance those that will be opened."""

    @property
    def blocks_ahead(self) -> int:
        """How many blocks after the current one the argument `later` of `expect` covers."""

    def expect(self, present: Sequence[Shard], later: Sequence[Shard]) -> None:
        """Announce the shards that are opened next, and those of the following blocks."""


@dataclass(frozen=True)
class PackingRule:
    """How a source is cut into blocks and rows; with the manifest it determines the whole order.

    `sequence_length`: positions a row; `block_shards`: shards shuffled and packed together;
    `packing`: "best_fit", or "none" for one document (or piece of one) a row.
    """

    sequence_length: int
    seed: int
    block_shards: int
    packing: str


@dataclass(frozen=True)
class Origin:
    """Where a piece comes from: document `index` of `shard`, from its token `start` on."""

    shard: str
    index: int
    metadata: dict[str, Any]
    start: int


class Source:
    """A position in one corpus that moves a packed sequence at a time, through epoch after epoch.

    Each epoch visits the shards in another order; `block_shards` consecutive ones form a block,
    whose documents are shuffled and packed together. Only that block is open and planned, so
    memory is O(shards + one block), and a seek costs at most one block's plan.

    `folder`, `manifest`: the corpus, local or at a URL, and its parsed manifest; `split`: the split
    that is read; `number`: the index of this source in the mixture, part of its random key;
    `rule`: how its documents become rows; `open_shard`: opens a shard for reading; `ahead`:
    prefetches the shards of a remote corpus; `reference_folder`: the reference model's
    log-probabilities of the answers, None without a reference.
    Raises DataError when the split is missing or empty.
    """

    def __init__(
        self,
        folder: Place,
        manifest: Manifest,
        split: str,
        number: int,
        rule: PackingRule,
        open_shard: OpenShard,
        ahead: ReadsAhead | None = None,
        reference_folder: Path | None = None,
    ):
        if split not in manifest.splits or manifest.splits[split].documents == 0:
            raise DataError(
                f"corpus {folder} has no documents in its {split} split: add text to it"
            )
        self._segments = KINDS[manifest.kind]
        if not any(map(self._positions, manifest.splits[split].shards)):
            raise DataError(
                f"corpus {folder} has no document of two tokens in its {split} split: add text"
            )
        self.folder = folder
        self.shards = manifest.splits[split].shards
        self.token_dtype = manifest.token_dtype
        self.kind, self.marked = manifest.kind, manifest.marked
        self.epoch = self.block = self.sequence = 0
        self.number, self._rule = number, rule
        self._open_shard, self._ahead = open_shard, ahead
        self._order: tuple[int, np.ndarray] | None = None
        self._planned: tuple[int, int] | None = None
        self._plan: PackingPlan
        self._shards: list[Shard] = []
        self._readers: list[OpenDocuments] = []
        self._reference_folder = reference_folder
        self._references: list[np.ndarray] | None = None

    @property
    def blocks(self) -> int:
        """Blocks an epoch."""
        return -(-len(self.shards) // self._rule.block_shards)

    def fingerprint(self) -> str:
        """16 hex digits that identify the split's content: they change when a shard does."""
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(f"{shard.name} {shard.sha256}\n".encode())
        return digest.hexdigest()[:16]

    def advance(self) -> int:
        """Step over the next sequence; returns its row in the plan of the block now open."""
        plan = self._open_block()
        while self.sequence >= plan.rows:
            self.sequence = 0
            self.block += 1
            if self.block >= self.blocks:
                self.block = 0
                self.epoch += 1
            plan = self._open_block()
        self.sequence += 1
        return self.sequence - 1

    def ends_epoch(self) -> bool:
        """Whether the current epoch has no sequence left."""
        if self.sequence < self._open_block().rows:
            return False
        later = self._shards_of_epoch(self.epoch)[(self.block + 1) * self._rule.block_shards :]
        return not any(self._positions(self.shards[shard]) for shard in later)

    def has_given(self, epochs: int) -> bool:
        """Whether `epochs` whole epochs have been read."""
        if self.epoch + 1 < epochs:
            return False
        return self.epoch >= epochs or self.ends_epoch()

    def most_rows(self) -> int:
        """An upper bound on the sequences of an epoch, from the manifest alone."""
        positions = sum(map(self._positions, self.shards))
        pieces = positions // self._rule.sequence_length + sum(s.documents for s in self.shards)
        if self._rule.packing == "none":
            return pieces
        # Any two rows of a block overflow one row together, or best fit would have merged them.
        return min(pieces, 2 * positions // self._rule.sequence_length + self.blocks)

    def read(self, row: int) -> list[np.ndarray]:
        """The pieces of a row of the open block: each has n positions and the last label, [n + 1].

        In the stored type, uint16 or uint32. Of a two-segment example, each segment is a piece.
        """
        readers, extra = self._readers, self._segments
        pieces = [
            readers[shard].tokens(document, start, start + length + extra)
            for shard, document, start, length in self._plan.pieces(row)
        ]
        if extra == 1:
            return pieces
        return [segment for piece in pieces for segment in _halves(piece)]

    def references(self, row: int) -> list[float]:
        """The reference log-probability of each segment of a row of the open block, in nats.

        0.0 without a reference model.
        """
        known = self._references
        if known is None:
            return [0.0] * (self._segments * len(self._plan.pieces(row)))
        return [
            float(value)
            for shard, document, _, _ in self._plan.pieces(row)
            for value in known[shard][document]
        ]

    def places(self, row: int) -> list[tuple[str, int]]:
        """The shard name and document index of each piece of a row of the open block."""
        return [(self._shards[s].name, index) for s, index, _, _ in self._plan.pieces(row)]

    def origins(self, row: int) -> list[Origin]:
        """Where each piece of a row of the open block comes from."""
        return [
            Origin(self._shards[shard].name, index, self._readers[shard].metadata(index), start)
            for shard, index, start, _ in self._plan.pieces(row)
        ]

    def close(self) -> None:
        """Close the files of the open block."""
        for reader in self._readers:
            reader.close()
        self._readers, self._shards, self._planned = [], [], None

    def _open_block(self) -> PackingPlan:
        if self._planned == (self.epoch, self.block):
            return self._plan
        self.close()
        self._shards = self._shards_of_block(self.epoch, self.block)
        if self._ahead is not None:
            self._ahead.expect(self._shards, self._later_shards(self._ahead.blocks_ahead))
        for shard in self._shards:
            self._readers.append(self._open_shard(self.folder, shard, self.token_dtype))
        lengths = [reader.lengths for reader in self._readers]
        if self.marked:
            self._check_lengths(lengths)
        self._plan = plan_block(
            lengths,
            self._rule.sequence_length,
            self._rule.packing,
            self._rule.seed,
            (self.number, self.epoch, self.block),
            self._segments,
        )
        if self._reference_folder is not None:
            self._references = [
                read_references(self._reference_folder, shard, self._segments)
                for shard in self._shards
            ]
        self._planned = (self.epoch, self.block)
        return self._plan

    def _check_lengths(self, lengths: Sequence[np.ndarray]) -> None:
        """Raise DataError for an example longer than a row, since examples are never split: the
        second half would not attend to the first.
        """
        longest = max(int(part.max(initial=0)) for part in lengths) - self._segments
        if longest > self._rule.sequence_length:
            raise DataError(
                f"{self.folder} has an example of {longest} positions, and sequence_length is"
                f" {self._rule.sequence_length}: raise it, or name the set's own files"
            )

    def _positions(self, shard: Shard) -> int:
        """Positions that a shard's documents fill; a segment's last token is a label only."""
        return shard.tokens - self._segments * shard.documents

    def _shards_of_block(self, epoch: int, block: int) -> list[Shard]:
        first = block * self._rule.block_shards
        order = self._shards_of_epoch(epoch)[first : first + self._rule.block_shards]
        return [self.shards[number] for number in order]

    def _later_shards(self, blocks: int) -> list[Shard]:
        """The shards of the next `blocks` blocks, in reading order."""
        later = range(self.block + 1, self.block + 1 + blocks)
        places = [(self.epoch + number // self.blocks, number % self.blocks) for number in later]
        return [shard for place in places for shard in self._shards_of_block(*place)]

    def _shards_of_epoch(self, epoch: int) -> np.ndarray:
        if self._order is not None and self._order[0] == epoch:
            return self._order[1]
        order = shard_order(len(self.shards), self._rule.seed, self.number, epoch)
        if epoch == self.epoch:
            self._order = (epoch, order)
        return order


def _halves(example: np.ndarray) -> list[np.ndarray]:
    """The two segments of an example."""
    border = int(np.flatnonzero(example & np.uint32(SEGMENT))[0])
    return [example[:border], example[border:]]
