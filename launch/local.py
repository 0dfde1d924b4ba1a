"""A command on this machine: in this process, or as several local ranks."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from launch.ranks import collecting_signals, run_ranks, stopped_early
from trainer.collector import importing
from trainer.recipe import Recipe

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
RECIPES = Path(__file__).parent / "recipes"
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
"""The environment of what is to run on the CPU of a machine that has a GPU."""


def find_recipe(name: str) -> Path:
    """The recipe file that `name` means: a path, or the bare name of a shipped recipe ("tiny")."""
    shipped = RECIPES / f"{name}.yaml"
    if not Path(name).is_file() and Path(name).name == name and shipped.is_file():
        return shipped
    return Path(name)


def train_ranks(recipe: Recipe, nproc: int | None, force: bool) -> int:
    """Train on `nproc` local ranks (None: one), or as the rank that torchrun made of us.

    A single rank is a process of its own too, so that what ends it has a witness.
    """

    def worker(recipe: Recipe) -> int:
        with importing():
            from trainer.loop import train

        train(recipe, force=force)
        return 0

    if _is_rank():
        from launch.torchrun import train_as_rank

        return train_as_rank(recipe, worker)
    from launch.supervise import supervise

    ranks = nproc or 1
    training = recipe.fitting_world(ranks, recipe.device if recipe.device != "auto" else "cuda")
    began = time.monotonic()
    with collecting_signals() as signals:
        device = _device(recipe.device)
        if device == "cpu":
            _warm(sharded=recipe.sharding(training) > 0)
        elif recipe.recovery.minimum_replicas is not None:
            ranks = _with_device(ranks)
        if signals:
            raise stopped_early(signals[0])
        return supervise(recipe, ranks, device, worker, signals, began)


def _with_device(ranks: int) -> int:
    """How many of so many ranks have a GPU here: one may be gone since the command was written."""
    from trainer.parallel.join import visible_devices

    visible = visible_devices()
    if visible < ranks:
        _log.warning("of %d ranks %d have a GPU on this machine", ranks, visible)
    return min(ranks, visible)


def _warm(sharded: bool) -> None:
    """Import what every rank on the CPU needs, before they are forked."""
    from launch import warm

    if sharded:
        warm.load_deepspeed()


def run_local(
    worker: Callable[[], int], nproc: int | None, device: str = "auto", sharded: bool = False
) -> int:
    """The exit code of `worker` here, where one is asked for or this is a rank; else of all ranks.

    `sharded`: whether the ranks will want DeepSpeed. Raises what `run_ranks` raises.
    """
    if _is_rank() or nproc is None or nproc == 1:
        return worker()
    chosen = _device(device)
    if chosen == "cpu":
        _warm(sharded)
    return run_ranks(worker, nproc, chosen)


def result_on_ranks(worker: Callable[[], _T], nproc: int) -> _T:
    """Run `worker` on so many ranks of this machine's CPU; returns rank 0's result, JSON values.

    Also with one rank in a process of its own: the threads that it starts end before later forks.
    Raises SystemExit with the exit code of a rank that fails, unless `run_ranks` raises its error.
    """
    with tempfile.TemporaryDirectory(prefix="lyceum-") as folder:
        path = Path(folder) / "result.json"

        def rank() -> int:
            os.environ.update(NO_GPU)
            result = worker()
            if os.environ["RANK"] == "0":
                path.write_text(json.dumps(result), encoding="utf-8")
            return 0

        if code := run_ranks(rank, nproc, "cpu"):
            raise SystemExit(code)
        found: _T = json.loads(path.read_text(encoding="utf-8"))
        return found


def _is_rank() -> bool:
    return "RANK" in os.environ


def _device(wanted: str) -> str:
    if wanted == "cpu":
        return wanted
    with importing():
        from trainer.parallel.join import choose_device

    return choose_device(wanted).type
