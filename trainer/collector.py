"""Python's cycle collector, spared its walks over what is no garbage."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect no cycles in this block: where a great many objects are made and none is garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Import heavy packages in this block: the collector will not walk over what they leave.

    torch and megatron-core leave a million objects that live until the process ends. Walks over
    them as they come, as they age and once more at exit take a third of a short command's time.
    """
    with without_collector():
        yield
        # Straight into the oldest generation, past the walks over each younger one.
        gc.freeze()
        gc.unfreeze()
    # What ends with the process need not be searched for cycles.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
