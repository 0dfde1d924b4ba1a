"""Runs a function on several ranks: one warm server imports all once, ranks are its forks.

A server serves one pytest process (under pytest-xdist, one worker) to its end.
"""

import gc
import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

from launch.ports import own_port


class Died(Exception):
    """A rank ended without an answer."""


SECONDS = 1800
"""A case takes seconds, on the busiest machine minutes; one that takes this long hangs."""

_PRELOAD = ["tests.parity.warm"]


def on_ranks(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(*arguments)` on `count` ranks over gloo; what each returned, by rank."""
    with own_port() as port:
        return _run(warm_context(), port, count, function, arguments)


def warm_context() -> ForkServerContext:
    """What starts processes as forks of the warm server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _run(
    context: ForkServerContext,
    port: int,
    count: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> list[Any]:
    started = []
    caches = {name: os.environ[name] for name in ("LYCEUM_CACHE",) if name in os.environ}
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_rank,
            args=(sender, rank, count, port, caches, function, arguments),
            daemon=True,
        )
        process.start()
        sender.close()
        started.append((process, receiver))
    try:
        return [_answer(receiver) for _, receiver in started]
    finally:
        for process, _ in started:
            process.join(1)
            process.kill()


def _answer(receiver: Connection) -> Any:
    if not receiver.poll(SECONDS):
        raise TimeoutError(f"a rank gave no answer in {SECONDS} s")
    try:
        result, failure = pickle.loads(receiver.recv_bytes())
    except EOFError:
        raise Died("a rank ended without an answer") from None
    if failure is not None:
        raise AssertionError(failure)
    return result


def _rank(
    sender: Connection,
    rank: int,
    count: int,
    port: int,
    caches: dict[str, Any],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    gc.freeze()  # as launch.ranks does
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    environment |= caches  # the server was started with those of another test
    os.environ.update({name: str(value) for name, value in environment.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    try:
        # Pickled here: the pipe's own pickler would share tensors with a process about to end.
        sender.send_bytes(pickle.dumps((function(*arguments), None)))
    except BaseException:
        sender.send_bytes(pickle.dumps((None, f"rank {rank}:\n{traceback.format_exc()}")))
