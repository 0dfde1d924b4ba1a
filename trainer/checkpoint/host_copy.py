"""Host memory that a save copies its pieces to, so that training goes on while they are written."""

import mmap
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from trainer.checkpoint.format import Piece

_CHUNK_BYTES = 64 << 20
ALIGNED_BYTES = 64
"""Every piece begins at a multiple."""
_PAGE_BYTES = 4096


class HostCopy:
    """Copies of the live tensors' boxes; its memory is used again by the next `take`.

    On a GPU (`device`) the memory is pinned, and the copies run one behind another on the current
    stream; the host waits once, at the end. On a CPU it is of large pages where the kernel has
    them: what a first copy takes is mostly the pages' faults.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned = device.type == "cuda"
        self._chunks: list[Tensor] = []
        self._chunk, self._used = 0, 0

    def prepare(self, nbytes: int) -> None:
        """Make memory for so many bytes ahead of the first `take`, in one piece."""
        memory = self._memory(max(nbytes, 1))
        if not self._pinned:
            memory.numpy()[::_PAGE_BYTES] = 0  # a page comes into being when it is written to
        self._chunks.insert(0, memory)

    def take(self, pieces: Iterable[Piece]) -> list[Piece]:
        """The pieces with their values in this memory, which holds until the next call.

        Consumes the iterator whole, also where producing a piece is collective.
        """
        self._chunk, self._used = 0, 0
        copies = [self._copy(piece) for piece in pieces]
        if self._pinned:
            torch.cuda.synchronize(self._device)
        return copies

    def _copy(self, piece: Piece) -> Piece:
        values = piece.values().detach()
        room = self._room(values.nbytes)
        own = room.view(values.dtype).view(values.shape)
        if not self._pinned and values.is_contiguous():
            # The C library's copy goes past the caches where a piece is larger than they are.
            np.copyto(room.numpy(), values.reshape(-1).view(torch.uint8).numpy())
        else:
            own.copy_(values, non_blocking=self._pinned)
        return Piece(piece.key, piece.global_shape, piece.offset, own)

    def _room(self, nbytes: int) -> Tensor:
        """Bytes of this memory, uint8 [nbytes]."""
        while True:
            if self._chunk == len(self._chunks):
                self._chunks.append(self._memory(max(nbytes, _CHUNK_BYTES)))
            chunk = self._chunks[self._chunk]
            if self._used + nbytes <= len(chunk):
                room = chunk[self._used : self._used + nbytes]
                self._used += nbytes + -nbytes % ALIGNED_BYTES
                return room
            self._chunk, self._used = self._chunk + 1, 0

    def _memory(self, nbytes: int) -> Tensor:
        if self._pinned:
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
        memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A forked data worker would share its pages, and each first write to one copy it again.
        for advice in ("MADV_DONTFORK", "MADV_HUGEPAGE"):
            if hasattr(mmap, advice):
                memory.madvise(getattr(mmap, advice))
        return torch.frombuffer(memory, dtype=torch.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        return sum(map(len, self._chunks))
