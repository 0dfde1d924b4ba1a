"""A rank that torchrun started: it trains or stands by, and ends with torchrun's process."""

import os
import time
from collections.abc import Callable

from launch.ranks import die_with
from trainer.errors import StopRequested
from trainer.recipe import Recipe
from trainer.recovery.standby import SPARES, stand_by
from trainer.recovery.torchrun import check_store, under_torchrun

_SIGNAL_SECONDS = 5.0
"""How long a rank that stopped because another was asked to waits to be asked too: torchrun's
processes of the nodes see within a second or two that a node has come, and the first to see it must
not make the others take the end of their ranks for a failure."""


def train_as_rank(recipe: Recipe, worker: Callable[[Recipe], int]) -> int:
    """Train, or stand by where `recovery.minimum_replicas` leaves this rank over; the exit code.

    Raises RecipeError where too few ranks are there, ClusterError where they could not meet again,
    and what `worker` raises.
    """
    if under_torchrun():
        die_with(os.getppid())  # torchrun gives each rank a session of its own
    elastic = recipe.recovery.minimum_replicas is not None
    check_store(nodes_change=elastic)
    if elastic:
        world = int(os.environ["WORLD_SIZE"])
        training = recipe.fitting_world(world, "cuda" if recipe.device == "auto" else recipe.device)
        os.environ |= {"WORLD_SIZE": str(training), SPARES: str(world - training)}
        if int(os.environ["RANK"]) >= training:
            from trainer.parallel.join import meeting_store

            return stand_by(meeting_store)
    try:
        return worker(recipe)
    except StopRequested as stop:
        if under_torchrun() and stop.signal is None:
            time.sleep(_SIGNAL_SECONDS)
        raise
