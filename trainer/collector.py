"""Pause Python's cycle collector where its scans cannot find garbage."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Disable the cycle collector in this block, which allocates many objects and no garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Import heavy packages in this block: the collector will not scan the objects they allocate.

    torch and megatron-core allocate a million objects that live until the process ends. Scanning
    them on allocation, on promotion and at exit takes a third of a short command's time.
    """
    with without_collector():
        yield
        # Moves all objects into the oldest generation, without scans of the younger ones.
        gc.freeze()
        gc.unfreeze()
    # Objects that end with the process need no search for cycles at exit.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
