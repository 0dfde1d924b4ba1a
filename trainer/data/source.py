"""One corpus of the mixture: where the stream stands in it, and the block that is open."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trainer.data.manifest import Manifest, Shard
from trainer.data.order import shard_order
from trainer.data.packing import Plan, plan_block
from trainer.errors import DataError


class Documents(Protocol):
    """What a source asks of an open shard; `ShardReader` is the real one."""

    @property
    def lengths(self) -> np.ndarray:
        """Stored tokens of each document, int64 [documents]."""

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        """Tokens `start:stop` of a document."""

    def metadata(self, index: int) -> dict[str, Any]:
        """What is known of a document."""

    def close(self) -> None:
        """Give back what is open."""


OpenShard = Callable[[Path, Shard, str], Documents]


@dataclass(frozen=True)
class Rule:
    """How a source is cut into blocks and rows; with the manifest it determines the whole order."""

    sequence_length: int
    seed: int
    block_shards: int
    packing: str


@dataclass(frozen=True)
class Origin:
    """The document of a piece: number `index` of `shard`, from its token `start` on."""

    shard: str
    index: int
    metadata: dict[str, Any]
    start: int


class Source:
    """A position in one corpus that moves a packed sequence at a time, through epoch after epoch.

    Each epoch visits the shards in another order; `block_shards` consecutive ones form a block,
    whose documents are shuffled and packed together. Only that block is open and planned, so
    memory is O(shards + one block), and moving to a position costs at most one block's plan.
    Raises DataError when the split is missing or empty.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        split: str,
        number: int,
        rule: Rule,
        open_shard: OpenShard,
    ):
        if split not in manifest.splits or manifest.splits[split].documents == 0:
            raise DataError(
                f"corpus {folder} has no documents in its {split} split: add text to it"
            )
        self.folder = folder
        self.shards = manifest.splits[split].shards
        self.token_dtype = manifest.token_dtype
        self.epoch = self.block = self.sequence = 0
        self._number, self._rule, self._open_shard = number, rule, open_shard
        self._order: tuple[int, np.ndarray] | None = None
        self._planned: tuple[int, int] | None = None
        self._plan: Plan
        self._shards: list[Shard] = []
        self._readers: list[Documents] = []

    @property
    def blocks(self) -> int:
        """Blocks an epoch."""
        return -(-len(self.shards) // self._rule.block_shards)

    def fingerprint(self) -> str:
        """A short name for the content of the split: it changes when a shard does."""
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
        """Whether the next sequence belongs to another epoch than the first one left unread."""
        if self.block + 1 < self.blocks:
            return False
        return self.sequence >= self._open_block().rows

    def read(self, row: int) -> list[np.ndarray]:
        """The tokens of each piece of a row of the open block: n positions and one label more."""
        readers = self._readers
        return [
            readers[shard].tokens(document, start, start + length + 1)
            for shard, document, start, length in self._plan.pieces(row)
        ]

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

    def _open_block(self) -> Plan:
        if self._planned == (self.epoch, self.block):
            return self._plan
        self.close()
        order = self._shards_of_epoch()
        first = self.block * self._rule.block_shards
        self._shards = [self.shards[i] for i in order[first : first + self._rule.block_shards]]
        for shard in self._shards:
            self._readers.append(self._open_shard(self.folder, shard, self.token_dtype))
        self._plan = plan_block(
            [reader.lengths for reader in self._readers],
            self._rule.sequence_length,
            self._rule.packing,
            self._rule.seed,
            (self._number, self.epoch, self.block),
        )
        self._planned = (self.epoch, self.block)
        return self._plan

    def _shards_of_epoch(self) -> np.ndarray:
        if self._order is None or self._order[0] != self.epoch:
            order = shard_order(len(self.shards), self._rule.seed, self._number, self.epoch)
            self._order = (self.epoch, order)
        return self._order[1]
