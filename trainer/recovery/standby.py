"""Ranks that the batch leaves over: they stand by until the others end, and end alike.

Where a node is lost, torchrun starts all ranks again, and those may be among them.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from trainer.errors import ContactLost, LyceumError
from trainer.recipe import Recipe
from trainer.recovery.status_file import read_status

_log = logging.getLogger(__name__)

SPARES = "LYCEUM_SPARES"
"""Environment variable of the ranks that train: how many stand by."""

_END = "lyceum/end"
_HEARD = "lyceum/end/heard"
_POLL_SECONDS = 0.2
_GOODBYE_SECONDS = 5.0
"""How long the first rank, which holds the store, waits until all have heard of the end."""


class SharedStore(Protocol):
    """What is needed of the store in which the job's ranks meet."""

    def set(self, key: str, value: str) -> None:
        """Publish."""

    def get(self, key: str) -> bytes:
        """Read; waits for the key."""

    def add(self, key: str, amount: int) -> int:
        """Add to a number, from 0; returns the sum."""

    def check(self, keys: list[str]) -> bool:
        """Whether all keys are there."""


def spare_ranks() -> int:
    """How many ranks stand by while this one trains."""
    return int(os.environ.get(SPARES, "0"))


@contextmanager
def telling_spares(connect: Callable[[], SharedStore]) -> Iterator[None]:
    """A block of the first rank after which the ranks that stand by end, with its exit code.

    `connect`: gives the job's store.
    """
    code = 1
    try:
        yield
        code = 0
    except LyceumError as error:
        code = error.exit_code
        raise
    finally:
        if spares := spare_ranks():
            with suppress(RuntimeError):  # the store is gone: they see that too
                _tell(connect(), code, spares)


def _tell(store: SharedStore, code: int, spares: int) -> None:
    store.set(_END, str(code))
    deadline = time.monotonic() + _GOODBYE_SECONDS
    while store.add(_HEARD, 0) < spares and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS / 4)


def stand_by(connect: Callable[[], SharedStore]) -> int:
    """Wait until the ranks that train have ended; returns their exit code.

    Raises ContactLost where they are gone without a word.
    """
    try:
        store = connect()
        while not store.check([_END]):
            time.sleep(_POLL_SECONDS)
        code = int(store.get(_END))
        store.add(_HEARD, 1)
    except RuntimeError as error:
        raise ContactLost(
            f"rank {os.environ.get('RANK', '0')}, which stood by, lost the others: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return code


def tell_replicas(recipe: Recipe, world_size: int) -> None:
    """Log how many replicas train, where ranks stand by or their number is another than before."""
    now, spares = recipe.data_parallel(world_size), spare_ranks()
    before = (read_status(Path(recipe.run)) or {}).get("replicas") or now
    if now == before and not spares:
        return
    change = f", {before} before" if now != before else ""
    by = f"; {spares} rank{'s stand' if spares > 1 else ' stands'} by" if spares else ""
    _log.log(
        logging.WARNING if spares or now < before else logging.INFO,
        "replicas that train: %d%s; micro-batches of each a step: %d; the batch stays as it is%s",
        *(now, change, recipe.micro_batches(world_size), by),
    )
