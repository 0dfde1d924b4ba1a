"""Attention masks as one interval of keys a query: memory linear in the sequence length."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from kernels.arguments import check
from kernels.launch import sent

Kind = Literal["full", "causal", "documents", "intervals", "any"]


@dataclass(frozen=True, eq=False)
class Visible:
    """A mask: query q attends to the keys low[q] <= k <= high[q].

    `low`, `high`: int32 [batch, queries], in 0..keys and -1..keys-1, nondecreasing in q; a query
    with high < low sees nothing. `first`, `last`: int32 [batch, keys], the same mask by keys: key k
    is seen by the queries first[k] <= q <= last[k], nondecreasing in k. `kind` and `window` are
    known on the host, so that choosing a back end needs no synchronization. Built once a
    micro-batch, by one of the class methods, for all layers. Of kind "any" the mask is a dense one,
    and the intervals are only its bounds.
    """

    low: Tensor
    high: Tensor
    first: Tensor
    last: Tensor
    kind: Kind
    window: int | None = None
    """The most keys that a query sees, including its own; None: no limit."""
    may_see_nothing: bool = False
    """Whether some query may see no key; its output is then 0 and its lse -inf."""
    _begins: Tensor | None = None
    _on_host: Tensor | None = None
    _made: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def causal(
        cls,
        batch: int,
        queries: int,
        keys: int | None = None,
        window: int | None = None,
        device: torch.device | str = "cpu",
    ) -> "Visible":
        """Causal attention in one document: a token sees itself and the tokens before it.

        The queries are the last of the `keys` positions (None: as many as queries); with more
        queries than keys the first ones see nothing. `window`: the most tokens that one sees,
        including itself. Raises ValueError for a negative size or a window below 1.
        """
        keys = queries if keys is None else keys
        _check_sizes(batch, queries, keys, window)
        position = torch.arange(keys - queries, keys, device=device)
        low = position.new_zeros(queries)
        if window is not None:
            low = (position - window + 1).clamp(min=0)
        empty = queries > keys
        return cls._shared(batch, low, position.clamp(min=-1), keys, "causal", window, empty)

    @classmethod
    def full(
        cls, batch: int, queries: int, keys: int, device: torch.device | str = "cpu"
    ) -> "Visible":
        """Every query sees every key. Raises ValueError for a negative size."""
        _check_sizes(batch, queries, keys, None)
        low = torch.zeros(queries, dtype=torch.int64, device=device)
        return cls._shared(batch, low, low + (keys - 1), keys, "full", None, keys == 0)

    @classmethod
    def documents(
        cls,
        position_ids: Tensor,
        queries: Tensor | None = None,
        window: int | None = None,
        on_host: Tensor | None = None,
    ) -> "Visible":
        """Causal attention within documents: a token sees itself and earlier ones of its document.

        `position_ids`: int [batch, sequence]; a document begins where it is 0. Keys are the whole
        sequence, in order. `queries`: int [queries], ascending indices in the sequence, such as the
        slices of a context-parallel rank, or the last ones in generation; None: all. `window`: as
        in `causal`. `on_host`: the same position_ids in host memory, with which `cu_seqlens` needs
        no synchronization. Raises ValueError for a wrong shape, dtype, device or order.
        """
        check(
            position_ids.dim() == 2 and not position_ids.is_floating_point(),
            f"position_ids: shape {list(position_ids.shape)} should be integers [batch, sequence]",
        )
        _check_window(window)
        keys = position_ids.shape[1]
        position = torch.arange(keys, device=position_ids.device)
        begins = torch.where(position_ids == 0, position, 0)
        begins = begins.cummax(dim=1).values if keys else begins
        if queries is None:
            visible = cls._of_documents(begins, position, keys, window)
            return replace(visible, _on_host=on_host)
        check(
            queries.dim() == 1 and not queries.is_floating_point(),
            f"queries: shape {list(queries.shape)} should be integers [queries]",
        )
        check(
            queries.device == position_ids.device,
            f"queries: is on {queries.device}, but position_ids on {position_ids.device}; move one",
        )
        if queries.device.type == "cpu" and len(queries) > 0:  # elsewhere it would be a wait
            low, high = int(queries.min()), int(queries.max())
            check(
                low >= 0 and high < keys, f"queries: places {low}..{high} are not in 0..{keys - 1}"
            )
            check(bool((queries.diff() >= 0).all()), "queries: places must be in rising order")
        return cls._of_documents(begins[:, queries], queries, keys, window, whole=False)

    @classmethod
    def from_cu_seqlens(
        cls, cu_seqlens: Tensor, length: int, window: int | None = None
    ) -> "Visible":
        """As `documents`, from their boundaries as FlashAttention has them; a batch of 1.

        `cu_seqlens`: int [documents + 1], ascending from 0; `length`: tokens in all. Those beyond
        the last boundary (padding) are one more document. Raises ValueError for a wrong shape or
        dtype.
        """
        check(
            cu_seqlens.dim() == 1 and len(cu_seqlens) > 0 and not cu_seqlens.is_floating_point(),
            f"cu_seqlens: shape {list(cu_seqlens.shape)} should be integers [documents + 1]",
        )
        _check_sizes(1, length, length, window)
        position = torch.arange(length, device=cu_seqlens.device)
        bounds = cu_seqlens.long()
        begins = bounds[torch.searchsorted(bounds, position, right=True) - 1]
        return cls._of_documents(begins[None], position, length, window)

    @classmethod
    def of_dense(cls, dense: Tensor) -> "Visible":
        """Any mask: bool [batch, queries, keys], True where a query sees a key, one at least.

        For tokens of a tree, whose branches see their stem and not each other. Memory grows with
        queries x keys. Raises ValueError for another shape or dtype.
        """
        check(
            dense.dim() == 3 and dense.dtype == torch.bool,
            f"dense: shape {list(dense.shape)} should be booleans [batch, queries, keys]",
        )
        batch, queries, keys = dense.shape
        bounds = torch.zeros(1, 1, dtype=torch.int32, device=dense.device)
        return cls(
            bounds.expand(batch, queries),
            (bounds + (keys - 1)).expand(batch, queries),
            bounds.expand(batch, keys),
            (bounds + (queries - 1)).expand(batch, keys),
            kind="any",
            _made={"dense": dense},
        )

    @classmethod
    def _of_documents(
        cls, begins: Tensor, position: Tensor, keys: int, window: int | None, whole: bool = True
    ) -> "Visible":
        low = begins if window is None else torch.maximum(begins, position - window + 1)
        high = position.expand_as(low)
        sides = _sides(low, high, keys)
        if whole:
            return cls(*sides, kind="documents", window=window, _begins=begins)
        return cls(*sides, kind="intervals", window=window)

    @classmethod
    def _shared(
        cls,
        batch: int,
        low: Tensor,
        high: Tensor,
        keys: int,
        kind: Kind,
        window: int | None,
        may_see_nothing: bool,
    ) -> "Visible":
        """The same mask for all sequences, from one row: `low`, `high` [queries]."""
        low, high, first, last = (
            side.expand(batch, -1) for side in _sides(low[None], high[None], keys)
        )
        return cls(low, high, first, last, kind, window, may_see_nothing)

    @property
    def batch(self) -> int:
        """The number of sequences."""
        return self.low.shape[0]

    @property
    def queries(self) -> int:
        """The number of queries a sequence."""
        return self.low.shape[1]

    @property
    def keys(self) -> int:
        """The number of keys a sequence."""
        return self.first.shape[1]

    @property
    def is_causal(self) -> bool:
        """Whether it is the plain lower triangle, the `is_causal` of SDPA and FlashAttention."""
        return self.kind == "causal" and self.window is None and self.queries == self.keys

    def dense(self) -> Tensor:
        """The dense mask, bool [batch, queries, keys]: True where a query sees a key."""
        if self.kind == "any":
            return self._made["dense"]
        key = torch.arange(self.keys, device=self.low.device)
        return (self.low[..., None] <= key) & (key <= self.high[..., None])

    def mask(self, dtype: torch.dtype) -> Tensor:
        """The additive mask [batch, 1, queries, keys]: 0 or, unseen, -inf; cached by dtype."""
        name = f"mask {dtype}"
        if name not in self._made:
            hidden = ~self.dense()[:, None]
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._made[name] = mask.masked_fill_(hidden, float("-inf"))
        return self._made[name]

    def sees_something(self) -> Tensor:
        """Whether each query sees any key: bool [batch, queries]."""
        return self.low <= self.high

    def cu_seqlens(self) -> tuple[Tensor, int]:
        """(boundaries int32 [documents + 1], longest document) of the batch's sequences in a row.

        For kind "documents" without `queries`. The first call synchronizes with the device, unless
        the positions were given on the host.
        """
        assert self._begins is not None, "only whole packed sequences have boundaries"
        if "cu_seqlens" not in self._made:
            if self._on_host is None:
                first = self._begins == torch.arange(self.keys, device=self.low.device)
            else:
                first = self._on_host == 0
                first[:, :1] = True  # a row that goes on with a document begins one all the same
            begins = first.flatten().nonzero().flatten()
            ends = begins.new_full((1,), self.batch * self.keys)
            bounds = torch.cat((begins, ends)).int()
            self._made["longest"] = bounds.diff().max().cpu()
            self._made["cu_seqlens"] = sent(bounds, self.low.device)
        return self._made["cu_seqlens"], int(self._made["longest"])


def _sides(low: Tensor, high: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(low, high, first, last) in int32 from low and high, int64 [batch, queries]."""
    low, high = low.contiguous(), high.contiguous()
    key = torch.arange(keys, device=low.device).expand(low.shape[0], keys).contiguous()
    first = torch.searchsorted(high, key, out_int32=True)
    last = torch.searchsorted(low, key, right=True, out_int32=True) - 1
    return low.int(), high.int(), first, last


def _check_sizes(batch: int, queries: int, keys: int, window: int | None) -> None:
    for name, size in (("batch", batch), ("queries", queries), ("keys", keys)):
        check(size >= 0, f"{name}: {size} is negative")
    check(max(queries, keys) < 2**31, f"keys: {keys} and {queries} queries must be below 2^31")
    _check_window(window)


def _check_window(window: int | None) -> None:
    check(window is None or window > 0, f"window: {window} tokens; it must be positive or left out")
