"""Loading lm-eval's tasks with their data, and saying in one line why one cannot be had."""

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.errors import DataError, LyceumError, SuiteUnavailable
from trainer.evaluate.harness.names import TaskShelf

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task

_log = logging.getLogger(__name__)
_CHATTY = ("lm_eval", "datasets", "huggingface_hub")
_CODE_ALLOWED = "HF_ALLOW_CODE_EVAL"
FEWSHOT_SEED = 1234
"""lm-eval's own seed of the examples that are drawn, and of numpy; its seed of `random` is 0."""


@dataclass(frozen=True)
class LoadedTasks:
    """The tasks that a name stands for, by their own names, and the groups that they form."""

    tasks: "dict[str, Task]"
    groups: "dict[str, Group]"


def load_tasks(name: str, shelf: TaskShelf, shots: int | None, seed: int) -> LoadedTasks:
    """Load a task, or those of a group or tag, as lm-eval's `simple_evaluate` does.

    `shots`: examples before each question (None: the task's own number). Raises DataError where
    the data cannot be had, or a task cannot be built.
    """
    with _quiet():
        try:
            loaded = shelf.manager_of(name).load([name])
        except LyceumError:
            raise
        except Exception as error:  # any task's own code, and what its data comes from
            raise DataError(_reason(name, error)) from error
    for task in loaded["tasks"].values():
        _set_shots(task, shots)
        task.set_fewshot_seed(seed=FEWSHOT_SEED + seed)
    return LoadedTasks(loaded["tasks"], loaded.get("groups", {}))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The draws of `random` and numpy that tasks make, from the seed; then those of before."""
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(FEWSHOT_SEED + seed)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


def _set_shots(task: "Task", shots: int | None) -> None:
    own = task.get_config("num_fewshot")
    if shots is None or own == 0:
        if own is None:
            task.set_config(key="num_fewshot", value=0)
        elif shots:
            _log.warning("%s: --shots %d is not used: its file sets none", task.task_name, shots)
        return
    task.set_config(key="num_fewshot", value=shots)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars and retries of those who fetch data, and lm-eval's advice to tasks' authors."""
    import datasets

    bars = datasets.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    datasets.disable_progress_bars()
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def _reason(name: str, error: Exception) -> str:
    """One line: what cannot be loaded, and the mend."""
    data, told = _data_set_in(error), " ".join(str(error).split()) or type(error).__name__
    if data is None:
        return f"{name}: the task cannot be loaded: {type(error).__name__}: {told}"
    return (
        f"{name}: its data set {data} cannot be had: {told}; fetch it where there is a network, or"
        " name a task whose data is here (--tasks-path)"
    )


def _data_set_in(error: BaseException) -> str | None:
    """The data set that was being loaded when the error came."""
    trace = error.__traceback__
    found = None
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "download":
            task: Any = frame.f_locals.get("self")
            found = getattr(task, "DATASET_PATH", None) or found
            found = _files_of(task) or found
        trace = trace.tb_next
    return found


def _files_of(task: Any) -> str | None:
    """The files of a data set that is only a format, as `json` is."""
    options = getattr(getattr(task, "config", None), "dataset_kwargs", None) or {}
    files = options.get("data_files")
    if files is None:
        return None
    named = list(files.values()) if isinstance(files, dict) else [files]
    return ", ".join(str(one) for one in named)


def refuse_senses(name: str, task: "Task") -> None:
    """Raise SuiteUnavailable for a task that needs more than reading and writing texts."""
    if getattr(task, "MULTIMODAL", False):
        raise SuiteUnavailable(f"{name}: asks about images or sounds, and the model reads texts")
    if getattr(task, "UNSAFE_CODE", False) and os.environ.get(_CODE_ALLOWED) != "1":
        raise SuiteUnavailable(
            f"{name}: runs what the model writes as a program; where that may do no harm, allow it"
            f" by {_CODE_ALLOWED}=1"
        )
