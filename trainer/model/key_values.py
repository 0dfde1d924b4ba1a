"""Keys and values of earlier tokens: of rows that grow, and of stems that rows branch off."""

from collections.abc import Sequence

from torch import Tensor, cat


class GrowingKeyValues:
    """Those of rows that grow together; each column is written once, into memory taken once.

    `room`: columns at most. Before a pass `begin` says what comes.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._first = self._padding = 0
        self.filled = 0

    def begin(self, new: int, padding: int = 0) -> None:
        """The next pass brings so many new columns, after `padding` ones that mean nothing."""
        self._first, self._padding = self.filled, padding
        self.filled += new

    def begin_behind(self, stem: "GrowingKeyValues", rows: int) -> None:
        """Begin as so many rows, all with the columns of `stem`, which has one."""
        self.filled = stem.filled
        for layer, pair in stem._layers.items():
            new = [_taken(one, self._room, rows) for one in pair]
            for room, one in zip(new, pair, strict=True):
                room[: self.filled] = one[: self.filled]
            self._layers[layer] = new[0], new[1]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """As `VisibleKeys.extend`; of the padding nothing is written or seen."""
        if layer not in self._layers:
            rows = key.shape[1]
            self._layers[layer] = _taken(key, self._room, rows), _taken(value, self._room, rows)
        written = []
        for room, new in zip(self._layers[layer], (key, value), strict=True):
            room[self._first : self.filled] = new[self._padding :] if self._padding else new
            written.append(room[: self.filled])
        return written[0], written[1]

    def select(self, rows: Tensor) -> None:
        """Go on with these rows alone; int64 [rows]."""
        for layer, pair in self._layers.items():
            # By rows first: what is selected lies as what it is selected from.
            new = [
                one.permute(1, 2, 0, 3).index_select(0, rows).permute(2, 0, 1, 3) for one in pair
            ]
            self._layers[layer] = new[0], new[1]


def _taken(like: Tensor, room: int, rows: int) -> Tensor:
    """Memory for [room, rows, kv_heads, head_size] of what `like` is [.., kv_heads, head_size] of.

    What a head reads of a row lies together.
    """
    _, _, heads, size = like.shape
    return like.new_empty(rows, heads, room, size).permute(2, 0, 1, 3)


class StemSegment:
    """A stretch of a text, read once, whose keys and values many rows see.

    `length`: its tokens; the columns that a pass has beyond them mean nothing.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}


class BranchKeyValues:
    """Those of rows that branch off a stem, which is read once for all of them.

    `stem`: its segments, in order; `written`: the segment that the pass's own columns become, where
    they are a piece of a stem themselves.
    """

    def __init__(self, stem: Sequence[StemSegment], written: StemSegment | None = None) -> None:
        self._stem = tuple(stem)
        self._written = written

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """As `VisibleKeys.extend`: the stem's, and behind them the new ones of each row."""
        if self._written is not None:
            length = self._written.length
            # Copies: a view would hold the whole projection.
            self._written.layers[layer] = key[:length].clone(), value[:length].clone()
        if not self._stem:
            return key, value
        rows = key.shape[1]
        before = [segment.layers[layer] for segment in self._stem]
        return (
            cat([*(one[0].expand(-1, rows, -1, -1) for one in before), key]),
            cat([*(one[1].expand(-1, rows, -1, -1) for one in before), value]),
        )
