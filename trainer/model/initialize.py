"""Initial weights that follow from (seed, name) alone: the same at every layout, on any device.

They are drawn on the CPU, since a GPU's generator gives other numbers: on an H100 the tiny recipe's
first losses were 0.04 nats from the CPU's, which no comparison could tell from a wrong kernel.
"""

import hashlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from trainer.parallel.sharding import Box, sharded_parameters
from trainer.recipe import Recipe

_BLOCK_ROWS = 1024


@torch.no_grad()
def initialize_weights(chunk: Any, recipe: Recipe) -> None:
    """Fill norms with 1 (zero-centred ones with 0), biases with 0, matrices from a normal.

    The standard deviation is `init_std`; for the two projections back into the residual stream
    init_std / sqrt(2 * layers) (GPT-2, Radford et al. 2019). Rows are drawn in blocks, each from
    its own generator, so a rank draws little more than it holds. Parameters on the meta device are
    skipped.
    """
    norm = 0.0 if recipe.model.zero_centered_norms else 1.0
    residual = 1.0 / math.sqrt(2.0 * recipe.model.layers)
    for parameter, sharding in sharded_parameters([chunk]):
        if parameter.is_meta:
            continue
        if parameter.dim() == 1:
            parameter.fill_(0.0 if sharding.name.endswith(".bias") else norm)
            continue
        projects_back = sharding.name.endswith(("linear_proj.weight", "linear_fc2.weight"))
        deviation = recipe.model.init_std * (residual if projects_back else 1.0)
        for box in sharding.boxes:
            fill_box(box.of(parameter), box, deviation, recipe.seed)


def fill_box(
    target: Tensor,
    box: Box,
    scale: float,
    seed: int | str,
    draw: Callable[..., Tensor] = torch.randn,
) -> None:
    """Fill a box of a matrix with `scale` times random numbers that depend on (seed, name) only.

    `target`: the box's memory, a view [rows, columns]; `box`: its offsets in the global matrix;
    `draw(rows, width, generator=, device=)`: the distribution, in fp32. Whole rows are drawn in
    blocks, and the box's part of each is copied; for a GPU by this rank's part of the processors.
    """
    first, columns = box.offset[0], box.offset[1]
    width = box.global_shape[1]
    last = first + box.shape[0]

    def fill(block: int) -> None:
        start = block * _BLOCK_ROWS
        rows = min(_BLOCK_ROWS, box.global_shape[0] - start)
        generator = torch.Generator().manual_seed(_seed(seed, box.name, block))
        low, high = max(first, start), min(last, start + rows)
        with torch.no_grad():  # which each thread has for itself
            drawn = draw(rows, width, generator=generator, device=torch.device("cpu"))
            part = drawn[low - start : high - start, columns : columns + box.shape[1]]
            target[low - first : high - first].copy_(part * scale)

    blocks = range(first // _BLOCK_ROWS, (last - 1) // _BLOCK_ROWS + 1)
    if not target.is_cuda:  # the ranks of a CPU share its processors
        for block in blocks:
            fill(block)
        return
    threads = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(fill, blocks))


def _seed(seed: int | str, name: str, block: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}/{block}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
