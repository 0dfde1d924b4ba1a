"""Python's cycle collector: what it does not walk over, and that it goes on afterwards."""

import gc
import subprocess
import sys
import weakref

from trainer.collector import importing, without_collector


class Knot:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


def oldest(thing: object) -> bool:
    """Whether only a full collection walks over it."""
    return any(thing is each for each in gc.get_objects(generation=2))


def test_the_collector_goes_on_after_a_block() -> None:
    """Catches a block that leaves the collector off, or turns it on where it was off."""
    for block in (without_collector, importing):
        with block():
            assert not gc.isenabled()
        assert gc.isenabled()
        gc.disable()
        try:
            with block():
                pass
            assert not gc.isenabled()
        finally:
            gc.enable()


def test_what_was_imported_is_old_at_once() -> None:
    """Catches walks over a million modules' objects, once a younger generation."""
    young = Knot()
    assert not oldest(young)
    with importing():
        made = Knot()
    assert oldest(made)
    assert gc.get_freeze_count() == 0


def test_cycles_made_while_importing_are_freed_later() -> None:
    """Catches memory that is lost for good: old objects are garbage like others when they die."""
    with importing():
        knot = Knot()
    gone = weakref.ref(knot)
    del knot
    gc.collect()
    assert gone() is None


def test_a_process_that_imported_ends_without_a_search() -> None:
    """Catches the walk at exit, which took a seventh of `lyceum generate`."""
    script = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        "from trainer.collector import importing\n"
        "with importing(): import json\n"
        "with importing(): import csv\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["True"]
