"""What a run's directory holds, read once for a report; nothing here is judged or drawn."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.addresses import redacted_values
from trainer.checkpoint.best import BestCheckpoint, read_best
from trainer.checkpoint.folders import latest_checkpoint
from trainer.checkpoint.format import MANIFEST
from trainer.checkpoint.merge_record import MERGE_FILE, MergeRecord, read_merge
from trainer.errors import DataError, LyceumError, RecipeError
from trainer.parsing import read_json, read_yaml
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe
from trainer.recipe.stages import StageTraits
from trainer.report.reading.run_log import RunLog, read_log
from trainer.report.reading.steps import METRICS, RunSteps, read_steps_of

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class RunRecord:
    """A run as it lies on disk.

    `keys`: recipe.yaml as plain values; `recipe`: the same where this version reads it, else None;
    `steps`: None without any (an ancestor, or a merge); `status`, `environment`: {} where they are
    missing; `merge`: how its newest checkpoint came about, where it was merged and not trained;
    `label`: what the page calls it.
    """

    folder: Path
    label: str
    keys: Mapping[str, Any]
    recipe: Recipe | None
    steps: RunSteps | None
    status: Mapping[str, Any]
    environment: Mapping[str, Any]
    best: BestCheckpoint | None
    log: RunLog
    merge: MergeRecord | None = None

    @property
    def called(self) -> str:
        """What its stage is called; of another version's recipe, the name that stands there."""
        if self.merge is not None:
            return "merge"
        traits = self.traits
        return str(self.keys.get("stage")) if traits is None else traits.called

    @property
    def traits(self) -> StageTraits | None:
        """What is to know of its stage; None for a merge, and for another version's recipe."""
        return None if self.recipe is None or self.merge else self.recipe.stage_traits

    def key(self, name: str) -> Any:
        """The value of a recipe key by its dotted name; None where there is none."""
        value: Any = self.keys
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    @property
    def ranks(self) -> int | None:
        """On how many ranks the run was last started; None where nothing says it.

        Older runs did not record it: then the logs of ranks are counted.
        """
        recorded = self.environment.get("ranks")
        if type(recorded) is int and recorded > 0:
            return recorded
        return len(list((self.folder / "logs").glob("rank-*.log"))) or None

    @property
    def ranks_a_node(self) -> int | None:
        """Ranks on the node that wrote the record; None where nothing says it."""
        recorded = self.environment.get("ranks_a_node")
        return recorded if type(recorded) is int and recorded > 0 else None

    @cached_property
    def parameters(self) -> int | None:
        """Parameters of the model, without adapters; None where the recipe does not tell."""
        if self.recipe is None or self.recipe.model.vocab is None:
            return None
        return int(parameter_count(self.recipe.model, self.recipe.model.vocab)["total"])

    @cached_property
    def state(self) -> str:
        """done, stopped, failed, running, killed (running, and its process is gone) or unknown."""
        state = self.status.get("state")
        if state != "running":
            return state if state in ("done", "stopped", "failed") else "unknown"
        return "killed" if self._is_gone() else "running"

    def _is_gone(self) -> bool:
        pid = self.status.get("pid")
        if self.status.get("host") != socket.gethostname() or type(pid) is not int or pid <= 0:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return False


def is_run(folder: Path) -> bool:
    """Whether a folder is the directory of a run that trains or has trained."""
    return (folder / RECIPE).is_file() and not (folder / MANIFEST).is_file()


def read_run(folder: Path, needs_steps: bool = True) -> RunRecord:
    """Read a run's directory, or the folder that a merge made.

    `needs_steps`: raise DataError where no step was made; else the page says so. Raises DataError
    for a folder that is no run, and for a recipe that cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    merged = None if is_run(folder) else _merged(folder)
    if merged is not None:
        return _read(merged[0], folder, None, merged[1])
    _require_run(folder)
    steps = None
    if needs_steps or (folder / METRICS).is_file():
        try:
            steps = read_steps_of(folder)
        except DataError:
            if needs_steps:
                raise
    return _read(folder, folder, steps, None)


def _read(
    recipe_in: Path, folder: Path, steps: RunSteps | None, merge: MergeRecord | None
) -> RunRecord:
    keys, recipe = _recipe(recipe_in / RECIPE)
    return RunRecord(
        folder=folder,
        label=folder.name,
        keys=keys,
        recipe=recipe,
        steps=steps,
        status=json_object(folder / "status.json"),
        environment=json_object(folder / "environment.json"),
        best=read_best(folder),
        log=read_log(folder / "logs" / "rank-0.log"),
        merge=merge,
    )


def _require_run(folder: Path) -> None:
    if is_run(folder):
        return
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder}: {what}; give the directory of a run")
    if (folder / MANIFEST).is_file():
        run = folder.parent.parent
        mend = f"give its run, {run}" if is_run(run) else "give the directory of a run"
        raise DataError(f"{folder}: is a checkpoint, and no run; {mend}")
    if state := json_object(folder / "status.json").get("state"):
        raise DataError(
            f"{folder}: has no {RECIPE} and made no step, and its status.json says {state}: train"
            " it, or give the directory of another run"
        )
    raise DataError(
        f"{folder}: is no run: it has no {RECIPE}; give a directory that lyceum train wrote"
    )


def _merged(folder: Path) -> tuple[Path, MergeRecord] | None:
    """The newest checkpoint in a folder and how it was merged; None where it was not."""
    try:
        newest = folder if (folder / MERGE_FILE).is_file() else latest_checkpoint(folder)
        record = None if newest is None else read_merge(newest)
    except LyceumError:
        return None
    return None if newest is None or record is None else (newest, record)


def _recipe(path: Path) -> tuple[Mapping[str, Any], Recipe | None]:
    try:
        text = path.read_text(encoding="utf-8")
        keys = read_yaml(text)
    except (OSError, ValueError):
        raise DataError(f"{path}: cannot be read as YAML; put the run's recipe back") from None
    if not isinstance(keys, dict):
        raise DataError(f"{path}: is no recipe; put the run's own back")
    try:
        recipe = Recipe.from_yaml(text, str(path))
    except RecipeError:  # of an older or newer version: its keys are shown all the same
        recipe = None
    return redacted_values(keys), recipe


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none that can be read."""
    try:
        content = read_json(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
