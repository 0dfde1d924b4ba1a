"""The memory that Python code takes, from tracemalloc, without that of other threads."""

import gc
import os
import pickle
import traceback
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple


class Traced(NamedTuple):
    """What an action gave, and the bytes that it held at its end and at most."""

    result: Any
    held: int
    most: int


def traced(action: Callable[[], Any], result: Callable[[Any], Any] = lambda _: None) -> Traced:
    """Do `action` in a fork, which has this thread alone; `result` picks what is sent back of it.

    tracemalloc counts every thread of its process, and a server or a loader that an earlier test
    left to end by itself may be one. What is imported at the first call is not the action's
    either, so a first one goes untraced.
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(sender, "wb") as pipe:
            pipe.write(pickle.dumps(_answer(action, result)))
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    found = pickle.loads(answer)
    if isinstance(found, str):
        raise AssertionError(found)
    return Traced(*found)


def _answer(action: Callable[[], Any], result: Callable[[Any], Any]) -> tuple[Any, int, int] | str:
    # What the fork inherited is not its to destroy: objects of libraries whose threads it lacks.
    gc.freeze()
    try:
        action()
        gc.collect()
        tracemalloc.start()
        done = action()
        held, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return result(done), held, most
    except BaseException:
        return traceback.format_exc()
