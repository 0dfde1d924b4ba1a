"""Names of lm-eval's tasks, groups and tags: its own, and those of a folder."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import RecipeError
from trainer.recipe.reading import close_name

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

_FILES = "**/*.yaml"


def check_tasks(
    names: Sequence[str], tasks_path: Path | None, built_in: Collection[str] = ()
) -> None:
    """Raise RecipeError for a name that no task, group or tag has, with the nearest one.

    `built_in`: the suites that are no tasks, which may have been meant. Also where lm-eval is not
    installed, where the folder has no task, or one by the name of a built-in suite that is asked.
    Of several ranks the first checks.
    """
    tasks = [name for name in names if name not in built_in]
    if os.environ.get("RANK", "0") != "0" or (not tasks and tasks_path is None):
        return
    if tasks:
        _require_harness(tasks, built_in)
    elif find_spec("lm_eval") is None:
        return  # built-in suites alone, which need none of it
    shelf = shelf_of(tasks_path)
    shelf.refuse_twins(name for name in names if name in built_in)
    for name in tasks:
        shelf.require(name, built_in)


@lru_cache(maxsize=1)
def shelf_of(tasks_path: Path | None) -> "TaskShelf":
    """The tasks of a folder and of lm-eval, read once; raises as TaskShelf."""
    return TaskShelf(tasks_path)


def _require_harness(names: Sequence[str], built_in: Iterable[str]) -> None:
    if find_spec("lm_eval") is None:
        near = close_name(names[0], built_in)
        mend = f"did you mean {near}? " if near else ""
        raise RecipeError(
            f"no suite {names[0]!r}: {mend}tasks of lm-eval need it installed:"
            " pip install 'lyceum[evaluate]'"
        )


def harness_version() -> str:
    """Of the installed lm-eval."""
    return version("lm_eval")


class TaskShelf:
    """The tasks that can be named: those in `folder` (None: none), then those of lm-eval.

    lm-eval's own 14,000 files are read only when one is asked for, and never if not `every`.
    Raises RecipeError where the folder is none, or holds no task.
    """

    def __init__(self, folder: Path | None, every: bool = True) -> None:
        self._folder = folder
        self._with_defaults = every
        if folder is None:
            return
        if not folder.is_dir():
            raise RecipeError(f"--tasks-path {folder}: no such folder; name that of the task files")
        if not self._own.all_tasks:
            problems = self._problems()
            mend = problems[0] if problems else "it takes lm-eval's task files (*.yaml)"
            raise RecipeError(f"--tasks-path {folder}: holds no task; {mend}")

    def require(self, name: str, built_in: Iterable[str] = ()) -> None:
        """Raise RecipeError, with the nearest name, where there is no task of this name."""
        if self._folder is not None and name in self._own.task_index:
            return
        if name in self._every.task_index:
            return
        near = close_name(name, [*built_in, *self._every.all_tasks])
        mend = f"did you mean {near}?" if near else "`lyceum evaluate --list` shows all"
        unread = self._problems()
        more = f" ({len(unread)} files of --tasks-path are no tasks: {unread[0]})" if unread else ""
        raise RecipeError(f"no suite {name!r}, nor a task of lm-eval; {mend}{more}")

    def refuse_twins(self, built_in: Iterable[str]) -> None:
        """Raise RecipeError where the folder has a task by the name of a suite that is asked."""
        for name in built_in:
            if self._folder is not None and name in self._own.task_index:
                raise RecipeError(
                    f"{name}: a built-in suite has the name of a task in --tasks-path"
                    f" ({self._folder}): give the task another"
                )

    def manager_of(self, name: str) -> "TaskManager":
        """What loads the task: where all that it names stands in the folder, that alone."""
        if self.is_own(name):
            return self._own
        return self._every

    def is_own(self, name: str) -> bool:
        """Whether the name, and all that it names, stands in the folder."""
        entry = None if self._folder is None else self._own.task_index.get(name)
        if entry is None:
            return False
        members = entry.tags if entry.kind.name == "TAG" else (entry.cfg or {}).get("task")
        if isinstance(members, str) or members is None:
            return True  # a task, which names none
        names = [
            one if isinstance(one, str) else one.get("task", one.get("group")) for one in members
        ]
        return all(isinstance(one, str) and self.is_own(one) for one in names)

    @cached_property
    def _own(self) -> "TaskManager":
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(self._folder), include_defaults=False)
        _find_data_beside(manager, self._folder)
        return manager

    @cached_property
    def _every(self) -> "TaskManager":
        from lm_eval.tasks import TaskManager

        if not self._with_defaults:
            return self._own
        if self._folder is None:
            return TaskManager()
        manager = TaskManager(include_path=str(self._folder))
        _find_data_beside(manager, self._folder)
        return manager

    def _problems(self) -> list[str]:
        """Why files of the folder are no tasks; lm-eval passes over them in silence."""
        from lm_eval.tasks._yaml_loader import load_yaml

        found = []
        for file in sorted((self._folder or Path()).glob(_FILES)) if self._folder else ():
            try:
                content = load_yaml(file, resolve_func=False)
            except Exception as error:  # any file of a user's, read by another's code
                found.append(f"{file}: {' '.join(str(error).split())}")
                continue
            if not {"task", "group"} & set(content):
                found.append(f"{file}: has neither a key `task` nor `group`")
        return found


def _find_data_beside(manager: "TaskManager", folder: Path | None) -> None:
    """Let a task's data files be named relative to its own file, where no such file is here.

    So too those of tasks that stand within a group's file.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    index = manager.task_index
    for name, entry in list(index.items()):
        path = entry.yaml_path
        if path is None or folder is None or folder.absolute() not in path.absolute().parents:
            continue
        if not _with_files_beside(entry.cfg or {}, path.parent):
            continue
        # A function that cannot be imported is told of when the task itself is loaded.
        with suppress(Exception):
            resolved = load_yaml(path, resolve_func=True)
            found = {**resolved, **_with_files_beside(resolved, path.parent)}
            index[name] = replace(entry, yaml_path=None, cfg=found)


def _with_files_beside(cfg: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The keys of a task or group that name files found beside it, with their whole paths."""
    changed: dict[str, Any] = {}
    path = cfg.get("dataset_path")
    if isinstance(path, str) and not Path(path).exists() and (folder / path).is_dir():
        changed["dataset_path"] = str((folder / path).absolute())
    options = cfg.get("dataset_kwargs")
    if isinstance(options, dict):
        files = {
            key: _beside(options[key], folder)
            for key in ("data_files", "data_dir")
            if key in options
        }
        if any(files[key] != options[key] for key in files):
            changed["dataset_kwargs"] = {**options, **files}
    members = cfg.get("task")
    if isinstance(members, list):  # a group may hold whole tasks, and other data for those it names
        found = [
            _with_files_beside(one, folder) if isinstance(one, dict) else {} for one in members
        ]
        if any(found):
            both = zip(members, found, strict=True)
            changed["task"] = [{**one, **files} if files else one for one, files in both]
    return changed


def _beside(files: Any, folder: Path) -> Any:
    if isinstance(files, dict):
        return {key: _beside(one, folder) for key, one in files.items()}
    if isinstance(files, list):
        return [_beside(one, folder) for one in files]
    if isinstance(files, str) and "://" not in files and not Path(files).exists():
        found = folder / files
        return str(found.absolute()) if found.exists() or any(folder.glob(files)) else files
    return files
