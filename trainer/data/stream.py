"""The stream of packed sequences: a mixture of corpora in an order that needs no history."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.batch import Batch, Parcel, Rows
from trainer.data.manifest import load_manifest
from trainer.data.order import Mixture
from trainer.data.shards import ShardReader
from trainer.data.source import OpenShard, Rule, Source
from trainer.errors import DataError

if TYPE_CHECKING:
    from trainer.recipe import Recipe


class Stream:
    """An endless stream of packed sequences, the same for every world size and number of workers.

    `sources` are (corpus folder, weight) pairs; what sequence n is follows from the arguments
    alone. Raises DataError for a corpus that is missing or empty, and for two corpora made with
    different tokenizers; RecipeError for a bad weight. `open_shard` is there for tests.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, float]],
        split: str = "train",
        sequence_length: int = 1024,
        seed: int = 0,
        block_shards: int = 8,
        packing: str = "best_fit",
        open_shard: OpenShard = ShardReader,
    ):
        assert sources, "a stream needs a source"
        self._sequence_length = sequence_length
        rule = Rule(sequence_length, seed, block_shards, packing)
        self._mixture = Mixture([weight for _, weight in sources])
        self._sources: list[Source] = []
        self._taken = [0] * len(sources)
        first = load_manifest(sources[0][0])
        for number, (folder, _) in enumerate(sources):
            manifest = load_manifest(folder) if number else first
            if manifest.tokenizer_fingerprint != first.tokenizer_fingerprint:
                raise DataError(
                    f"corpora {sources[0][0]} and {folder} were made with different tokenizers:"
                    " build them again with the same one"
                )
            self._sources.append(Source(Path(folder), manifest, split, number, rule, open_shard))
        self._end_of_text = first.end_of_text
        self._corpora = [source.fingerprint() for source in self._sources]

    @property
    def sequences(self) -> int:
        """Sequences consumed so far, over all sources."""
        return sum(self._taken)

    def state(self) -> dict[str, Any]:
        """Where the stream stands: JSON-able, a few integers a source."""
        return {
            "sequences": self.sequences,
            "sources": [
                {
                    "corpus": corpus,
                    "taken": taken,
                    "epoch": source.epoch,
                    "block": source.block,
                    "sequence": source.sequence,
                }
                for corpus, taken, source in zip(
                    self._corpora, self._taken, self._sources, strict=True
                )
            ],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a saved position, in O(1): at most one block a source is planned again.

        Raises DataError when the state is damaged or belongs to other corpora.
        """
        try:
            positions = [
                [int(saved[key]) for key in ("taken", "epoch", "block", "sequence")]
                for saved in state["sources"]
            ]
            corpora = [saved["corpus"] for saved in state["sources"]]
            sequences = int(state["sequences"])
        except (KeyError, TypeError, ValueError):
            raise DataError("the saved position in the data is damaged") from None
        if corpora != self._corpora:
            folders = ", ".join(str(source.folder) for source in self._sources)
            raise DataError(
                f"the saved position is in other data than {folders}: the corpus was rebuilt or the"
                " mixture changed since; bring the data back, or start with init_from"
            )
        counts = [position[0] for position in positions]
        if sum(counts) != sequences or min(min(position) for position in positions) < 0:
            raise DataError("the saved position in the data is damaged: its counts do not add up")
        self._taken = counts
        for source, (_, epoch, block, sequence) in zip(self._sources, positions, strict=True):
            source.epoch, source.block, source.sequence = epoch, block, sequence

    def next(self, global_batch: int, rows: Sequence[int], at_most: int | None = None) -> Batch:
        """Consume `global_batch` sequences and return those numbered `rows` among them, in order.

        With `at_most`, the batch has no more sequences than that and none that an epoch repeats;
        the rows left over are padding. Raises DataError naming the shard when one is missing,
        truncated, altered, or at odds with its index.
        """
        return self.next_parcel(global_batch, rows, at_most).unpack()

    def next_parcel(
        self, global_batch: int, rows: Sequence[int], at_most: int | None = None
    ) -> Parcel:
        """What `next` does, left in one tensor for the way out of a worker."""
        places = {row: place for place, row in enumerate(rows)}
        assert len(places) == len(rows), "a row is asked for once"
        first_sequence = self.sequences
        filled = Rows(len(rows), self._sequence_length, self._end_of_text)
        for number in range(global_batch):
            place = places.pop(number, None)
            if at_most is not None and (number >= at_most or self.ends_epoch()):
                at_most = number
                pieces = []
            else:
                source, row = self.advance()
                pieces = source.read(row) if place is not None else []
            if place is not None:
                filled.fill(place, pieces)
        assert not places, f"rows {sorted(places)} lie outside a batch of {global_batch}"
        return filled.parcel(first_sequence, self.state())

    def advance(self) -> tuple[Source, int]:
        """Step over one sequence; returns its source and its row in the block open there."""
        number = self._mixture.choose(self._taken)
        source = self._sources[number]
        row = source.advance()
        self._taken[number] += 1
        return source, row

    def skip(self, sequences: int) -> None:
        """Consume sequences without reading them."""
        for _ in range(sequences):
            self.advance()

    def ends_epoch(self) -> bool:
        """Whether the source of the next sequence has given all of its current epoch."""
        return self._sources[self._mixture.choose(self._taken)].ends_epoch()

    def close(self) -> None:
        """Close the files of the open blocks."""
        for source in self._sources:
            source.close()


def corpus_folders(recipe: "Recipe") -> list[Path]:
    """The corpora that a recipe trains on, one a source; its own one is built if need be."""
    if recipe.data.mixture:
        return [Path(part.corpus) for part in recipe.data.mixture]
    from trainer.data.build import ensure_corpus

    return [ensure_corpus(recipe)]


def stream_arguments(recipe: "Recipe", folders: Sequence[str | Path]) -> dict[str, Any]:
    """The arguments of `Stream` for a recipe: plain values, so that they go into JSON or a worker.

    `folders` is what `corpus_folders` returns.
    """
    weights = [part.weight for part in recipe.data.mixture] or [1.0]
    return {
        "sources": [
            [str(folder), float(weight)] for folder, weight in zip(folders, weights, strict=True)
        ],
        "split": "train",
        "sequence_length": recipe.sequence_length,
        "seed": recipe.seed,
        "block_shards": recipe.data.block_shards,
        "packing": recipe.data.packing,
    }
