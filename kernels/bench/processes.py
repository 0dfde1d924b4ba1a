"""Work that is mostly Triton's compiler, spread over processes of their own."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import torch

Returned = TypeVar("Returned")

MOST_PROCESSES = 16
"""On a GPU each holds a context of half a GiB."""


def spread(
    function: Callable[..., Returned], calls: Iterable[tuple[Any, ...]], most: int = MOST_PROCESSES
) -> Iterator[Returned]:
    """What `function`, of a module's top level, returns for each of `calls`, in their order.

    `most`: processes, of which there are no more than processors or calls. Raises what a call does.
    """
    work = list(calls)
    if not work:
        return
    workers = max(1, min(most, os.cpu_count() or 1, len(work)))
    # spawn: a forked process inherits threads' locks and, on a GPU machine, a CUDA context.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(function, *zip(*work, strict=True))
