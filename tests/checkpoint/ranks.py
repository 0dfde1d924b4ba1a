"""Several processes for the tests of collective behaviour: forked, gloo, over a file."""

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run_ranks(world: int, function: Callable[[int], Any], folder: Path) -> list[Any]:
    """The JSON results of `function(rank)` in `world` processes that form the default group.

    `folder`: an existing one, for the rendezvous and the results. Fails the test with the
    traceback of the first rank that raises; the others are ended.
    """
    torch.set_num_threads(1)  # a forked child cannot use its parent's OpenMP threads
    number = sum(1 for _ in folder.glob("store-*"))
    store = folder / f"store-{number}"
    store.touch()
    results = [folder / f"result-{number}-{rank}" for rank in range(world)]
    forking = multiprocessing.get_context("fork")
    processes = [
        forking.Process(target=_child, args=(world, rank, function, store, result))
        for rank, result in enumerate(results)
    ]
    for process in processes:
        process.start()
    _wait(processes)
    outcomes = [json.loads(result.read_text()) for result in results if result.exists()]
    broken = [outcome["error"] for outcome in outcomes if "error" in outcome]
    assert not broken and len(outcomes) == world, "\n".join(broken) or "a rank died"
    return [outcome["value"] for outcome in outcomes]


def _child(
    world: int, rank: int, function: Callable[[int], Any], store: Path, result: Path
) -> None:
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world,
            timeout=timedelta(minutes=10),  # a deadlock fails its test
        )
        outcome = {"value": function(rank)}
        dist.barrier()
    except BaseException:
        outcome = {"error": traceback.format_exc()}
    result.write_text(json.dumps(outcome))
    os._exit(1 if "error" in outcome else 0)


def _wait(processes: Sequence[BaseProcess]) -> None:
    """Wait for all; once one has failed, end the others, which may wait for it for ever."""
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        for sentinel in wait(list(waiting)):
            process = waiting.pop(sentinel)  # type: ignore[arg-type]
            process.join()
            for other in waiting.values() if process.exitcode else ():
                other.kill()
