"""Collectives of JSON values over the ranks: sent as UTF-8 bytes, never as pickles."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from trainer.errors import LyceumError, error_of, note_of

_T = TypeVar("_T")


class Ranks:
    """The ranks that save or load together; a world of 1 without torch.distributed.

    `group`: a torch.distributed group (None: the default one). A gloo group is best: over NCCL the
    messages pass through device memory. Every method is collective.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank(group) if self._together else 0
        self.world = dist.get_world_size(group) if self._together else 1
        nccl = self._together and dist.get_backend(group) == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if nccl else "cpu"

    def gather(self, value: Any) -> list[Any]:
        """Every rank's JSON value on rank 0, in the order of the ranks; [] on the others."""
        if self.world == 1:
            return [value]
        message, sizes = self._pad(value)
        received = [torch.empty_like(message) for _ in sizes] if self.rank == 0 else None
        dist.gather(message, received, group=self._group, group_dst=0)
        return [self._decode(m, size) for m, size in zip(received or [], sizes, strict=False)]

    def all_gather(self, value: Any) -> list[Any]:
        """Every rank's JSON value on every rank, in the order of the ranks."""
        if self.world == 1:
            return [value]
        message, sizes = self._pad(value)
        received = [torch.empty_like(message) for _ in sizes]
        dist.all_gather(received, message, group=self._group)
        return [self._decode(m, size) for m, size in zip(received, sizes, strict=True)]

    def share(self, value: Any) -> Any:
        """Rank 0's JSON value on every rank (what the others pass is ignored)."""
        if self.world == 1:
            return value
        message, sizes = self._pad(value if self.rank == 0 else None)
        dist.broadcast(message, group=self._group, group_src=0)
        return self._decode(message, sizes[0])

    def first_failure(self, reason: Any) -> tuple[int, Any] | None:
        """(the lowest rank that failed, its reason), equal on every rank; None if none failed.

        `reason`: why this rank failed (a JSON value), None where it did not.
        """
        reasons = enumerate(self.all_gather(reason))
        return next(((rank, why) for rank, why in reasons if why is not None), None)

    def _pad(self, value: Any) -> tuple[torch.Tensor, list[int]]:
        """The value as uint8 [longest message of all ranks], and every rank's true length."""
        encoded = json.dumps(value).encode()
        size = torch.tensor([len(encoded)], dtype=torch.int64, device=self._device)
        sizes = [torch.empty_like(size) for _ in range(self.world)]
        dist.all_gather(sizes, size, group=self._group)
        lengths = [int(s.item()) for s in sizes]
        padded = bytearray(encoded.ljust(max(lengths), b" "))
        return torch.frombuffer(padded, dtype=torch.uint8).to(self._device), lengths

    @staticmethod
    def _decode(message: torch.Tensor, size: int) -> Any:
        return json.loads(message[:size].cpu().numpy().tobytes())


SIGN_OF_LIFE_SECONDS = 300.0
"""A collective fails where a rank does not come to it in 30 minutes (trainer.parallel.join)."""


def on_first_rank(
    ranks: Ranks, action: Callable[[], _T], every_seconds: float = SIGN_OF_LIFE_SECONDS
) -> _T:
    """Run `action` on rank 0; its JSON-able result, or the LyceumError it raises, on every rank.

    It may take hours, as a corpus that is built does: until it ends the others hear from rank 0
    every so many seconds, and go on waiting.
    """
    if ranks.rank != 0:
        answer = None
        while answer is None:
            answer = ranks.share(None)
        result, failure = answer
    else:
        result, failure = None, None
        with _signs_of_life(ranks, every_seconds):
            try:
                result = action()
            except LyceumError as error:
                failure = note_of(error)
        result, failure = ranks.share([result, failure])
    if failure is not None:
        raise error_of(failure)
    shared: _T = result
    return shared


@contextmanager
def _signs_of_life(ranks: Ranks, every_seconds: float) -> Iterator[None]:
    """Tell the waiting ranks, from a thread, that the block is not over."""
    if ranks.world == 1:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(every_seconds):
            ranks.share(None)

    # A daemon: where the block ends with a bug's exception, other ranks may never answer.
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        over.set()
        raise
    over.set()
    thread.join()
