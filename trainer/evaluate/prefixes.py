"""What to run once for many texts: a plan over the tree that their shared beginnings make.

Texts are sorted, so that those that begin alike stand together. A beginning that many share and
that is long enough becomes a *stem*: it is run once, alone, and its keys and values are seen by all
that branch off it. What branches off is packed into rows; texts side by side in a row that begin
alike share these tokens too, each seeing its own path alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

STEM_SHORTEST, STEM_SAVING = 16, 256
"""The fewest tokens of a stem, and the fewest tokens that it must save: a pass of its own costs."""
ROW, ROW_LONGEST = 128, 512
"""Rows are filled up to ROW tokens; texts that begin alike share a row of at most ROW_LONGEST."""
STEM_PIECE = 1024
"""Tokens of a text that are run at a time, which bounds the memory of a pass."""


class Branch(NamedTuple):
    """A text in a row: tokens from `shared` on are its own, those before stand in the row already
    (or in the stem); `path`: the columns of those in the row.
    """

    text: int
    shared: int
    path: tuple[int, ...]


@dataclass
class PackedRow:
    """A row of `length` tokens, and the texts in it, in order."""

    length: int = 0
    branches: list[Branch] = field(default_factory=list)


@dataclass(frozen=True)
class PlannedPass:
    """One pass: rows that branch off the first `stem` segments of the stem, which has `depth`
    tokens; `extends`: whether it is the stem's next segment itself (one row, one text).

    `columns`: the longest row; `texts`: for a segment, all that share it, as a range of the sorted
    texts.
    """

    stem: int
    depth: int
    rows: tuple[PackedRow, ...]
    columns: int
    extends: bool = False
    texts: range = range(0)


Texts = Sequence[Sequence[int]]


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class PrefixPlan:
    """Plans the passes over sorted texts.

    `texts`: tuples of token ids, sorted, none empty; `budget`: tokens of a pass at most, where one
    row is not longer.
    """

    def __init__(self, texts: Texts, budget: int) -> None:
        self._texts = texts
        self._budget = budget
        shared = [0, *map(shared_length, texts[1:], texts[:-1])][: len(texts)]
        self.shared = np.array(shared, dtype=np.int64)
        """Of each text, the tokens that it begins with like the one before it."""

    def passes(self) -> Iterator[PlannedPass]:
        """The passes in their order: a stem's segments come before what branches off them."""
        yield from self._group(range(len(self._texts)), 0, 0)

    def _group(self, texts: range, stem: int, depth: int) -> Iterator[PlannedPass]:
        """The passes of texts that share `depth` tokens, which are the stem's `stem` segments."""
        leaves, stems = self._parted(texts, depth)
        yield from self._leaves(leaves, stem, depth)
        for part, end in stems:
            segments, first = stem, depth
            while first < end:
                length = min(end - first, STEM_PIECE)
                row = PackedRow(length, [Branch(part[0], first, ())])
                yield PlannedPass(segments, first, (row,), length, extends=True, texts=part)
                segments, first = segments + 1, first + length
            yield from self._group(part, segments, end)

    def _parted(self, texts: range, depth: int) -> tuple[list[range], list[tuple[range, int]]]:
        """The texts that go into rows, and those that get a stem, each with the stem's end.

        Stretches of texts are looked at from the whole downwards: one whose own beginning is worth
        a stem gets it, one that is small goes into a row, any other is parted where it branches.
        """
        leaves: list[range] = []
        stems: list[tuple[range, int]] = []
        waiting = [texts] if texts else []
        while waiting:
            part = waiting.pop()
            inside = self.shared[part.start + 1 : part.stop]
            end = int(inside.min()) if len(inside) else len(self._texts[part[0]])
            new = end - depth
            left = len(self._texts[part[-1]]) - depth
            if len(part) == 1:
                # What is left behind the pieces is a row, like any other text's.
                if left > STEM_PIECE:
                    stems.append((part, depth + (left - 1) // STEM_PIECE * STEM_PIECE))
                else:
                    leaves.append(part)
                continue
            size = self._size(part, depth)
            if size <= ROW:
                leaves.append(part)
            elif (
                size > ROW_LONGEST and new >= STEM_SHORTEST and new * (len(part) - 1) >= STEM_SAVING
            ):
                stems.append((part, end))
            elif size <= ROW_LONGEST and new >= (size - new) / 2:
                leaves.append(part)
            else:
                borders = part.start + 1 + np.flatnonzero(inside == end)
                edges = [part.start, *borders.tolist(), part.stop]
                waiting += [range(*two) for two in pairwise(edges)]
        return leaves, stems

    def _size(self, texts: range, depth: int) -> int:
        """Tokens of texts that are packed into a row, shared ones once."""
        lengths = sum(len(self._texts[text]) for text in texts)
        shared = int(np.maximum(self.shared[texts.start + 1 : texts.stop], depth).sum())
        return lengths - shared - depth

    def _leaves(self, leaves: list[range], stem: int, depth: int) -> Iterator[PlannedPass]:
        """Rows of like lengths, packed and put together up to the budget."""
        measured = [(self._size(part, depth), part) for part in leaves]
        # Of some texts nothing is left behind the stem.
        sized = sorted((one for one in measured if one[0]), key=_longest_first)
        # A stem is repeated for every row: longer rows behind longer stems.
        shortest = max(ROW, depth // 8)
        while sized:
            columns = max(sized[0][0], shortest)
            count = max(1, self._budget // columns)
            rows: list[PackedRow] = []
            # First fit; what comes is sorted, so that the rest is shorter than what did not fit.
            taken = 0
            open_rows: list[PackedRow] = []
            for size, part in sized:
                row = next((one for one in open_rows if one.length + size <= columns), None)
                if row is None:
                    if len(rows) == count:
                        break
                    row = PackedRow()
                    rows.append(row)
                    open_rows.append(row)
                self._pack(row, part, depth)
                if columns - row.length < sized[-1][0]:
                    open_rows.remove(row)
                taken += 1
            del sized[:taken]
            longest = max(row.length for row in rows)
            yield PlannedPass(stem, depth, tuple(rows), longest)

    def _pack(self, row: PackedRow, texts: range, depth: int) -> None:
        """Put texts that stand side by side into a row, shared tokens once."""
        path: list[int] = []
        for text in texts:
            shared = depth
            if text != texts[0]:
                shared = max(int(self.shared[text]), depth)
            del path[shared - depth :]
            new = len(self._texts[text]) - shared
            row.branches.append(Branch(text, shared, tuple(path)))
            path += range(row.length, row.length + new)
            row.length += new


def worth_a_stem(tokens: int, texts: int) -> bool:
    """Whether to run so many tokens, which so many texts begin with, once and alone."""
    return tokens >= STEM_SHORTEST and tokens * (texts - 1) >= STEM_SAVING


def _longest_first(sized: tuple[int, range]) -> tuple[int, int]:
    return -sized[0], sized[1].start
