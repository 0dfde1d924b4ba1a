"""The places of a machine's ranks: where none can start, a run goes on without that place."""

import logging
import os

from trainer.errors import DeviceMissing, LyceumError, RecipeError
from trainer.recipe import Recipe

_log = logging.getLogger(__name__)

PLACE = "LYCEUM_PLACE"
"""Environment variable: which of the places, from 0, a rank has: on GPUs, which of those that are
visible."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class RankPlaces:
    """Which of `count` places of a machine have a rank.

    All have, unless `recovery.minimum_replicas` is set: then as many as the recipe fits, and a
    place is left out whose rank fails twice in a row before it has made a step, or whose device is
    gone. Behind a failure after some steps it gets another try, where a restart is left in case it
    fails again. `device`: "cpu" or "cuda". Raises RecipeError where the recipe does not fit.
    """

    def __init__(self, recipe: Recipe, count: int, device: str) -> None:
        self._recipe, self._count, self._device = recipe, count, device
        self._out: set[int] = set()
        self._on_trial: set[int] = set()
        self._suspect: int | None = None
        self.used = list(range(count))
        if recipe.recovery.minimum_replicas is not None:
            self.used = self._chosen(self._out)
        self._news = self._told() if len(self.used) < count else ""
        self.tell()

    def tell(self) -> None:
        """Log what has changed since it was told, in one line."""
        if self._news:
            _log.warning(self._news)
        self._news = ""

    def _chosen(self, out: set[int]) -> list[int]:
        free = [place for place in range(self._count) if place not in out]
        return free[: self._recipe.fitting_world(len(free), self._device)]

    def _told(self) -> str:
        replicas = self._recipe.data_parallel(len(self.used))
        return f"replicas that train: {replicas}, on {len(self.used)} of {self._count} places"

    def environment(self, rank: int) -> dict[str, str]:
        """Variables for a rank."""
        found = {PLACE: str(self.used[rank])}
        if self._device == "cuda" and self.used != list(range(len(self.used))):
            known = os.environ.get(_VISIBLE)
            names = known.split(",") if known else list(map(str, range(self._count)))
            found[_VISIBLE] = ",".join(names[place] for place in self.used if place < len(names))
        return found

    def too_few(self, error: LyceumError, stepped: bool, restarts_left: int) -> LyceumError | None:
        """Choose the places of the next start, behind a rank's failure; what the run ends by, where
        fewer replicas are left than may train.

        `stepped`: whether the rank had made a step; `restarts_left`: behind the next start.
        """
        if self._recipe.recovery.minimum_replicas is None:
            return None
        try:
            self._choose(error, stepped, restarts_left)
        except RecipeError as fault:
            ended = type(error)(f"{error}; {fault}")
            ended.rank, ended.signal = error.rank, error.signal
            return ended
        return None

    def _choose(self, error: LyceumError, stepped: bool, restarts_left: int) -> None:
        place = None if error.rank is None else self.used[error.rank]
        again = place is not None and (place == self._suspect or place in self._on_trial)
        self._suspect = None if stepped else place
        if stepped:
            self._on_trial = set()
            if self._out and restarts_left > 0:
                self._try_again()
        elif place is not None and (again or isinstance(error, DeviceMissing)):
            self._leave_out(place)

    def _try_again(self) -> None:
        self._on_trial, self._out = self._out, set()
        self.used = self._chosen(self._out)
        self._news = f"{self._told()}; tried again: place {_listed(self._on_trial)}"

    def _leave_out(self, place: int) -> None:
        self._out.add(place)
        self._on_trial.discard(place)
        self._suspect = None
        self.used = self._chosen(self._out)
        self._news = f"{self._told()}; left out: place {_listed(self._out)}"


def _listed(places: set[int]) -> str:
    return ", ".join(map(str, sorted(places)))
