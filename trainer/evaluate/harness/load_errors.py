"""Why a task of lm-eval cannot be loaded, in one line, where its own error does not say it."""

from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any

from trainer.recipe.reading import close_name


def reason_of(name: str, error: Exception, away: str | None, known: Collection[str]) -> str:
    """One line: what cannot be loaded, and the mend.

    `away`: the hub that cannot be asked, None where it can; `known`: the tasks that there are.
    """
    return _of_a_member(name, error, known) or _reason(name, error, away)


def _reason(name: str, error: Exception, away: str | None) -> str:
    """One line: what cannot be loaded, and the mend; `away`: the hub that cannot be asked."""
    task, cause = _being_fetched(error), _first_cause(error)
    reason = " ".join(str(cause).split()) or type(cause).__name__
    if task is None or task.DATASET_PATH is None:
        if told := _untold(error):
            return f"{name}: the task cannot be loaded: {told}"
        if isinstance(cause, KeyError) and cause.args != (None,):
            return f"{name}: the task cannot be loaded: there is no {cause}, which its file names"
        return f"{name}: the task cannot be loaded: {type(error).__name__}: {reason}"
    files = _files_of(task)
    if files and not any("://" in one for one in files):
        if isinstance(cause, StopIteration):
            reason = "it holds no row"
        return f"{name}: its data set {', '.join(files)} cannot be read: {reason}; mend that file"
    if away is not None:
        reason = f"no copy is in the cache, and {away} has no address here (no network)"
    return (
        f"{name}: its data set {task.DATASET_PATH} cannot be had: {reason}; fetch it where there is"
        " a network, or name a task whose data is here (--tasks-path)"
    )


def _of_a_member(name: str, error: Exception, known: Collection[str]) -> str | None:
    """The line where a task names no data: one of its own, or, as lm-eval has it, a group's member
    that there is none of; else None.
    """
    task = _being_fetched(error)
    if task is None or task.DATASET_PATH is not None or callable(task.config.custom_dataset):
        return None
    member = str(task.config.task).rpartition("::")[2]
    if member == name:
        return f"{name}: the task cannot be loaded: it names no data: give dataset_path"
    near = close_name(member, known)
    mend = f"did you mean {near}?" if near else "mend the name, or give the task its data"
    return f"{name}: names the task {member!r}, which there is not; {mend}"


def _untold(error: BaseException) -> str | None:
    """What is wrong with a task where lm-eval's own error does not say it; None where it does."""
    from lm_eval.api.task import ConfigurableTask

    for frame in _frames(error):
        found = frame.f_locals
        task = found.get("self")
        if frame.f_code.co_name != "__init__" or not isinstance(task, ConfigurableTask):
            continue
        if isinstance(error, KeyError) and error.args == (None,):
            return f"lm-eval knows no metric {found.get('metric_name')!r}"
        if isinstance(error, IndexError) and not len(getattr(task, "task_docs", "?")):
            return "none of its documents is left to ask"
        if isinstance(error, IndexError) and found.get("choice") == "":
            return "a choice of its first document is empty"
    return None


def _first_cause(error: BaseException) -> BaseException:
    """What an error was raised from, which `datasets` wraps in one that says nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _being_fetched(error: BaseException) -> Any:
    """The task whose data set was being loaded when the error came; None where none was."""
    found = None
    for frame in _frames(error):
        task: Any = frame.f_locals.get("self")
        if frame.f_code.co_name == "download" and hasattr(task, "DATASET_PATH"):
            found = task
    return found


def _frames(error: BaseException) -> Iterator[FrameType]:
    """The calls through which an error came, outermost first."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _files_of(task: Any) -> list[str]:
    """The files of a data set that is only a format, as `json` is; else none."""
    options = getattr(getattr(task, "config", None), "dataset_kwargs", None) or {}
    named = options.get("data_files") or []
    named = list(named.values()) if isinstance(named, dict) else [named]
    return [str(one) for part in named for one in (part if isinstance(part, list) else [part])]
