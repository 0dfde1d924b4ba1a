"""Loading lm-eval's tasks with their data, and saying in one line why one cannot be had."""

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.errors import DataError, LyceumError, SuiteUnavailable
from trainer.evaluate.harness.load_errors import reason_of
from trainer.evaluate.harness.names import TaskShelf
from trainer.evaluate.harness.network import hub_out_of_reach, only_from_cache

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
    the data cannot be had, a task cannot be built, or has fewer examples than are shown.
    """
    away = None if shelf.is_own(name) else hub_out_of_reach()
    with _quiet(), nullcontext() if away is None else only_from_cache():
        try:
            loaded = shelf.manager_of(name).load([name])
        except LyceumError:
            raise
        except Exception as error:  # any task's own code, and what its data comes from
            known = shelf.manager_of(name).all_tasks
            raise DataError(reason_of(name, error, away, known)) from error
    for task in loaded["tasks"].values():
        _set_shots(task, shots)
        _require_examples(task)
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


def _require_examples(task: "Task") -> None:
    """Raise DataError where examples are too few, which lm-eval finds at each question anew."""
    from lm_eval.api.task import ConfigurableTask

    shots, sampler = task.get_config("num_fewshot"), getattr(task, "sampler", None)
    if not shots or sampler is None or not isinstance(task, ConfigurableTask):
        return
    examples, name = task.fewshot_cfg, task.task_name
    # A question of the same split is none of its own examples.
    same = examples.split is not None and examples.split == task.config.test_split
    most = len(sampler.df or ()) - same
    if shots > most:
        raise DataError(
            f"{name}: {shots} examples before each question, and it has {most} to show: ask for"
            " fewer (--shots)"
        )
    if examples.split is not None:
        shown = not task.has_test_docs() and examples.split == task.config.validation_split
        why = "its fewshot_split is that of its questions, and no test_split"
    else:
        apart = task.has_validation_docs() and task.has_test_docs()
        shown = not (examples.samples or task.has_training_docs() or apart)
        why = "names no fewshot_split"
    if shown:
        _log.warning(
            "%s: %s: examples are drawn from its questions, and may show the answer of the one that"
            " is asked",
            *(name, why),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars and retries of those who fetch data, and lm-eval's advice to tasks' authors.

    Errors that are logged are told by what is raised; of lm-eval's some are told by the log alone.
    """
    import datasets

    bars = datasets.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    datasets.disable_progress_bars()
    for name in levels:
        silent = logging.ERROR if name == "lm_eval" else logging.CRITICAL
        logging.getLogger(name).setLevel(silent)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def refuse_senses(name: str, task: "Task") -> None:
    """Raise SuiteUnavailable for a task that needs more than reading and writing texts."""
    if getattr(task, "MULTIMODAL", False):
        raise SuiteUnavailable(f"{name}: asks about images or sounds, and the model reads texts")
    if getattr(task, "UNSAFE_CODE", False) and os.environ.get(_CODE_ALLOWED) != "1":
        raise SuiteUnavailable(
            f"{name}: runs what the model writes as a program; where that may do no harm, allow it"
            f" by {_CODE_ALLOWED}=1"
        )
