"""The shards of one remote corpus, read through this node's cache."""

import logging
from collections.abc import Sequence
from pathlib import Path

from trainer.data.manifest import Manifest, Shard
from trainer.data.remote.cache import GIB, Cache, CachedFile
from trainer.data.remote.location import Place, Url
from trainer.data.remote.readahead import ReadAhead
from trainer.data.remote.transfer import Attempts, Wanted
from trainer.data.shards import ShardReader
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

log = logging.getLogger(__name__)


class KeptShard:
    """A shard and its index in the cache, locked there until closed."""

    def __init__(self, data: CachedFile, index: CachedFile):
        self._kept = (data, index)

    @property
    def data(self) -> Path:
        """The path of the tar."""
        return self._kept[0].path

    @property
    def index(self) -> Path:
        """The path of the index."""
        return self._kept[1].path

    def close(self) -> None:
        """Release both: they may be evicted from the cache."""
        for kept in self._kept:
            kept.close()


class RemoteShards:
    """Opens the shards of the corpus at `url`, and fetches ahead those that are expected.

    Raises DataError as `Cache.fetch` does.
    """

    def __init__(self, url: Url, attempts: Attempts, blocks_ahead: int = 0):
        self.url, self.blocks_ahead = url, blocks_ahead
        self._cache = Cache(attempts.remote)
        self._ahead = ReadAhead(self._fetch, attempts)

    def expect(self, present: Sequence[Shard], later: Sequence[Shard]) -> None:
        """Prefetch the shards that are opened now, then those that are opened later."""
        self._ahead.expect(present, later)

    def open(self, folder: Place, shard: Shard, token_dtype: str) -> ShardReader:
        """The shard, fetched unless it is cached, and locked in the cache while it is open."""
        assert folder == self.url
        # The cache has compared its checksum.
        return ShardReader(folder, shard, token_dtype, "size", self._ahead.take(shard))

    def close(self) -> None:
        """Stop prefetching."""
        self._ahead.close()

    def _fetch(self, shard: Shard, attempts: Attempts, patient: bool) -> KeptShard:
        index = self._cache.fetch(
            Wanted(self.url / shard.index_name, shard.index_sha256, shard.index_bytes, False),
            attempts,
            patient,
        )
        wanted = Wanted(self.url / shard.name, shard.sha256, shard.bytes)
        return KeptShard(self._cache.fetch(wanted, attempts, patient), index)


def shards_of(
    places: Sequence[Place],
    manifests: Sequence[Manifest],
    split: str,
    block_shards: int,
    remote: RemoteSection,
) -> dict[int, RemoteShards]:
    """The opener of shards of each remote corpus, by the corpus's index in `places`.

    Raises DataError where the cache is too small for them.
    """
    urls = {number: url for number, url in enumerate(places) if isinstance(url, Url)}
    if not urls:
        return {}
    ahead = fitting_read_ahead([manifests[number] for number in urls], split, block_shards, remote)
    return {number: RemoteShards(url, Attempts(remote), ahead) for number, url in urls.items()}


def fitting_read_ahead(
    manifests: Sequence[Manifest], split: str, block_shards: int, remote: RemoteSection
) -> int:
    """How many blocks of each corpus may be prefetched: `remote.read_ahead`, or fewer.

    The cache must hold two blocks of each corpus, and one of each other split: the fastest worker
    may have reached, and locked, the next block before the slowest has begun the current one. In
    less room they would deadlock, the one waiting for the other and that one for room. Raises
    DataError where the cache is smaller than that.
    """
    limit = int(remote.cache_gib * GIB)
    needed, others = 0, 0
    for manifest in manifests:
        for name, stored in manifest.stored_bytes.items():
            size = sum(stored[:block_shards])
            needed, others = (needed + size, others) if name == split else (needed, others + size)
    least = 2 * needed + others
    if least > limit:
        raise DataError(
            f"data.remote.cache_gib is {remote.cache_gib:.3g}, and the remote corpora need"
            f" {least / GIB:.3g}, for two blocks of {block_shards} shards each and the other"
            " splits: raise it, or lower data.block_shards"
        )
    # A validation reads a few rows of its first block.
    wanted = remote.read_ahead if split == "train" else 0
    fitting = min(wanted, (limit - least) // max(needed, 1))
    if fitting < wanted:
        log.warning(
            "data.remote.cache_gib %.3g has room to fetch %d blocks ahead, not %d: %.3g would do",
            *(remote.cache_gib, fitting, wanted, (least + wanted * needed) / GIB),
        )
    return fitting
