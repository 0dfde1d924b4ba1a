"""What a test says of memory must be that of the code it runs."""

import gc
import os
import threading

import pytest

from tests.traced import traced

MIB = 2**20


def test_what_other_threads_take_is_left_out() -> None:
    """Catches a test of memory that fails because a thread of an earlier test goes on."""
    ending = threading.Event()
    taken: list[bytearray] = []

    def take() -> None:
        while not ending.is_set():
            taken.append(bytearray(MIB))
            taken[:-8] = []

    other = threading.Thread(target=take)
    other.start()
    try:
        took = traced(lambda: [bytearray(MIB) for _ in range(4)], len)
    finally:
        ending.set()
        other.join()
    assert took.result == 4
    assert 4 * MIB <= took.held <= took.most < 4.1 * MIB


def test_what_a_first_call_alone_takes_is_left_out() -> None:
    """Catches a test of memory that fails where it is the first to need some module."""
    imported: list[bytearray] = []

    def action() -> None:
        if not imported:
            imported.append(bytearray(MIB))

    assert traced(action).most < 0.1 * MIB


def test_what_is_let_go_counts_to_the_most_alone() -> None:
    """Catches the two figures mistaken for each other."""
    took = traced(lambda: bytearray(4 * MIB)[:MIB])
    assert MIB <= took.held < 1.1 * MIB
    assert 5 * MIB <= took.most < 5.1 * MIB


def test_what_earlier_tests_left_is_not_destroyed_in_the_fork() -> None:
    """Catches a crash where a collection in the fork ends objects whose threads it has not."""
    ended: list[int] = []

    class Left:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            ended.append(os.getpid())

    gc.collect()
    gc.disable()
    try:
        Left()
        assert traced(lambda: ended[:], len).result == 0
    finally:
        gc.enable()
    gc.collect()
    assert ended == [os.getpid()]


def test_a_failure_is_the_tests() -> None:
    """Catches an action that failed passing for one that took nothing."""
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        traced(lambda: 1 / 0)
