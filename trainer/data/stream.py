"""The stream of packed sequences: a mixture of corpora in an order that is computed, not stored."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.batch import Batch, PackedRows, RowsBeingFilled
from trainer.data.manifest import Manifest, load_manifest
from trainer.data.mixture import MixtureState, SourceSchedule, phases_of
from trainer.data.references import reference_folder
from trainer.data.remote.location import place
from trainer.data.remote.reader import shards_of
from trainer.data.shards import ShardReader
from trainer.data.source import OpenShard, PackingRule, Source
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection


class Stream:
    """A stream of packed sequences, the same for every world size and number of workers.

    Sequence n follows from the arguments alone. `sources`: (corpus folder or URL, weight) pairs;
    `split`: the split that is read; `sequence_length`: positions a row; `block_shards`: shards
    shuffled and packed together; `packing`: "best_fit" or "none"; `epochs`: how often each source
    may be read (None: without limit), after which it is left out; `curriculum`: (first sequence,
    weight of each source) for each change of weights; `remote`: the fields of the recipe's
    `data.remote`; `references`: the key of the reference model whose log-probabilities come with
    the answers of pairs; `manifests`: those of the sources, if they are parsed already; `vocab`:
    rows of the model's embedding, where a tokenizer may have more tokens; `open_shard`: for tests.

    Raises DataError for a corpus that is missing or empty, for two corpora made with different
    tokenizers, and once every source has been read as often as it may; RecipeError for a bad
    weight.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, float]],
        split: str = "train",
        sequence_length: int = 1024,
        seed: int = 0,
        block_shards: int = 8,
        packing: str = "best_fit",
        epochs: Sequence[int | None] | None = None,
        curriculum: Sequence[tuple[int, Sequence[float]]] = (),
        remote: dict[str, Any] | None = None,
        references: str | None = None,
        manifests: Sequence[Manifest] | None = None,
        vocab: int | None = None,
        open_shard: OpenShard = ShardReader,
    ):
        assert sources, "a stream needs a source"
        assert epochs is None or len(epochs) == len(sources), "a cap or None for every source"
        self._sequence_length = sequence_length
        rule = PackingRule(sequence_length, seed, block_shards, packing)
        self._turns = SourceSchedule(phases_of([weight for _, weight in sources], curriculum))
        self._epochs = list(epochs) if epochs is not None else [None] * len(sources)
        self._sources: list[Source] = []
        places, distant = [place(folder) for folder, _ in sources], RemoteSection(**(remote or {}))
        if manifests is None:
            manifests = [load_manifest(folder, distant) for folder in places]
        first = manifests[0]
        self._remote = shards_of(places, manifests, split, block_shards, distant)
        for number, (folder, manifest) in enumerate(zip(places, manifests, strict=True)):
            if manifest.tokenizer_fingerprint != first.tokenizer_fingerprint:
                raise DataError(
                    f"corpora {sources[0][0]} and {folder} were made with different tokenizers:"
                    " build them again with the same one"
                )
            ahead = self._remote.get(number)
            opener = ahead.open if ahead and open_shard is ShardReader else open_shard
            known = None if references is None else reference_folder(Path(str(folder)), references)
            self._sources.append(
                Source(folder, manifest, split, number, rule, opener, ahead, known)
            )
        kinds = {manifest.kind for manifest in manifests}
        self._marked = kinds != {"documents"}
        self._answers = bool(kinds & {"pairs", "judged"})
        if self._answers and len(kinds) > 1:
            raise DataError(
                f"the mixture holds {' and '.join(sorted(kinds))}: give sets of one kind"
            )
        self._end_of_text = first.end_of_text
        self._vocab = vocab if vocab is not None and vocab < first.tokenizer_size else None
        self._corpora = [source.fingerprint() for source in self._sources]
        self._named = [
            f"{manifest.made_of}, in {folder}" if manifest.made_of else str(folder)
            for folder, manifest in zip(places, manifests, strict=True)
        ]

    @property
    def sequences(self) -> int:
        """Sequences consumed so far, over all sources."""
        return self._turns.sequences

    def most_sequences(self) -> int | None:
        """An upper bound on the sequences that the data gives; None: unlimited."""
        bounds = [
            None if epochs is None else epochs * source.most_rows()
            for source, epochs in zip(self._sources, self._epochs, strict=True)
        ]
        known = [bound for bound in bounds if bound is not None]
        return sum(known) if len(known) == len(bounds) else None

    def state(self) -> dict[str, Any]:
        """The position of the stream, for a checkpoint: JSON values, a few integers a source.

        `border` is the sequence from which shares are currently counted, by `weight`; `since` the
        sequences that a source has given since; `ended` the sequence from which it is left out, or
        None; `epoch`, `block` and `sequence` the source's own position.
        """
        counts = self._turns.counts()
        assert counts.weights is not None
        return {
            "sequences": self.sequences,
            "border": counts.border,
            "sources": [
                {
                    "corpus": self._corpora[number],
                    "weight": counts.weights[number],
                    "taken": counts.taken[number],
                    "since": counts.since[number],
                    "ended": counts.ended[number],
                    "epoch": source.epoch,
                    "block": source.block,
                    "sequence": source.sequence,
                }
                for number, source in enumerate(self._sources)
            ],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Seek to a saved position, in O(1): at most one block a source is planned again.

        Weights and epochs may differ from the saved ones: the present ones hold from here on.
        Raises DataError when the state is damaged or belongs to other corpora.
        """
        try:
            corpora = [saved["corpus"] for saved in state["sources"]]
            positions = [
                tuple(int(saved[key]) for key in ("epoch", "block", "sequence"))
                for saved in state["sources"]
            ]
            sequences, counts = int(state["sequences"]), MixtureState.of_state(state)
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
            raise DataError("the saved position in the data is damaged") from None
        if corpora != self._corpora:
            pairs = zip_longest(self._named, self._corpora, corpora)
            changed = ", ".join(name for name, now, before in pairs if name and now != before)
            raise DataError(
                f"the saved position is in other data than {changed or 'the mixture'}: it changed,"
                " or the corpus was rebuilt or the mixture changed since; bring the data back, or"
                " start with init_from"
            )
        least = min(min(position) for position in positions)
        if sum(counts.taken) != sequences or min(counts.taken) < 0 or least < 0:
            raise DataError("the saved position in the data is damaged: its counts do not add up")
        for source, position in zip(self._sources, positions, strict=True):
            source.epoch, source.block, source.sequence = position
        self._turns.load(self._with_present_ends(counts))

    def _with_present_ends(self, counts: MixtureState) -> MixtureState:
        """The counts, with sources reopened whose limit of epochs has been raised since."""
        ended = [
            end if epochs is not None and source.epoch + 1 >= epochs else None
            for end, source, epochs in zip(counts.ended, self._sources, self._epochs, strict=True)
        ]
        if ended == counts.ended:
            return counts
        return MixtureState(sum(counts.taken), counts.taken, [0] * len(ended), ended)

    def next(self, global_batch: int, rows: Sequence[int], at_most: int | None = None) -> Batch:
        """Consume `global_batch` sequences and return those at the indices `rows`, in that order.

        With `at_most`, no more than that many sequences are consumed and none beyond the current
        epoch; the remaining rows are padding. Raises DataError naming the shard when one is
        missing, truncated, altered, or at odds with its index.
        """
        return self.next_packed(global_batch, rows, at_most).unpack()

    def next_packed(
        self, global_batch: int, rows: Sequence[int], at_most: int | None = None
    ) -> PackedRows:
        """As `next`, in the compact form that a worker process sends."""
        places = {row: place for place, row in enumerate(rows)}
        assert len(places) == len(rows), "a row is asked for once"
        first_sequence = self.sequences
        filled = RowsBeingFilled(
            len(rows), self._sequence_length, self._end_of_text, self._marked, self._answers
        )
        for number in range(global_batch):
            place = places.pop(number, None)
            if at_most is not None and (number >= at_most or self.ends_epoch()):
                at_most = number
            else:
                source, row = self.advance()
                if place is not None:
                    filled.fill(place, *self._read(source, row))
        assert not places, f"rows {sorted(places)} lie outside a batch of {global_batch}"
        return filled.pack(first_sequence, self.state())

    def _read(self, source: Source, row: int) -> tuple[list[np.ndarray], list[float]]:
        """A row's pieces, and the reference log-probabilities of answers in nats (none: empty)."""
        pieces = source.read(row)
        if self._vocab is not None:
            self._refuse_rowless(source, row, pieces, self._vocab)
        if self._marked and not source.marked:
            # In a mixture with conversations too, every token of a document is a target.
            pieces = [piece.astype(np.uint32) | np.uint32(TARGET) for piece in pieces]
        return pieces, source.references(row) if self._answers else []

    def _refuse_rowless(
        self, source: Source, row: int, pieces: list[np.ndarray], vocab: int
    ) -> None:
        """Raise DataError where a piece holds a token that the embedding has no row for."""
        for number, piece in enumerate(pieces):
            largest = int((piece & ID_MASK if source.marked else piece).max())
            if largest >= vocab:
                found = source.origins(row)[number].metadata.get("id")
                raise DataError(
                    f"{found}: holds token {largest}, and the model's embedding has {vocab} rows:"
                    " leave that text out, or take a base with a row for it"
                )

    def advance(self) -> tuple[Source, int]:
        """Consume one sequence; returns its source and its row in that source's open block."""
        number = self._turns.take()
        source, epochs = self._sources[number], self._epochs[number]
        row = source.advance()
        if epochs is not None and source.has_given(epochs):
            self._turns.end(number)
        return source, row

    def skip(self, sequences: int) -> None:
        """Consume sequences without reading them."""
        for _ in range(sequences):
            self.advance()

    def ends_epoch(self) -> bool:
        """Whether the source of the next sequence has given all of its current epoch."""
        return self._sources[self._turns.peek()].ends_epoch()

    def close(self) -> None:
        """Close the files of the open blocks, and stop prefetching."""
        for source in self._sources:
            source.close()
        for shards in self._remote.values():
            shards.close()
