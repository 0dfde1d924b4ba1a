"""Whether all ranks see one run directory: what one of them writes, the others read."""

import socket
import time
import uuid
from pathlib import Path

from trainer.errors import ClusterError, RecipeError
from trainer.parallel.agreement import Ranks, on_first_rank

_LOOKS = 50
_LOOK_SECONDS = 0.1
"""What is written on one machine may be seen a little later on another: NFS keeps what it knew."""


def require_shared(run: Path, ranks: Ranks) -> None:
    """Raise ClusterError, on all ranks alike, where one does not see the first one's run directory.

    Raises RecipeError where nothing can be written there.
    """
    if ranks.world == 1:
        return
    name = f".seen-by-all-{uuid.uuid4().hex[:12]}"

    def write() -> str:
        try:
            (run / name).write_bytes(b"")
        except OSError as error:
            raise RecipeError(
                f"run {run}: cannot be written: {error.strerror}; make it writable, or name another"
            ) from None
        return name

    probe = run / on_first_rank(ranks, write)
    blind = None if _seen(probe) else f"rank {ranks.rank} on {socket.gethostname()}"
    failure = ranks.first_failure(blind)
    if ranks.rank == 0:
        probe.unlink(missing_ok=True)
    if failure is not None:
        raise ClusterError(
            f"{failure[1]} does not see what rank 0 writes to {run}: a run directory must lie on a "
            "file system that all ranks share; name such a one (run=...)"
        )


def _seen(probe: Path) -> bool:
    for _ in range(_LOOKS):
        if probe.exists():
            return True
        time.sleep(_LOOK_SECONDS)
    return False
