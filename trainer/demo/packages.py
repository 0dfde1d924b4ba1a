"""The Python source files of the standard library and of installed packages, found without
importing them.
"""

import importlib.metadata
import importlib.util
import os
import platform
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trainer.errors import RecipeError

STDLIB = "stdlib"
TOPICS = "topics"
ALL = "all"
OURS = ("trainer", "kernels", "launch")
SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test"}
)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A Python file: the package it was found for, its dotted module name, its path and size."""

    package: str
    module: str
    path: str
    bytes: int


def resolve_packages(names: Sequence[str]) -> list[str]:
    """The packages that `corpus.packages` names, sorted, with "all" expanded.

    Raises RecipeError for a name that is neither stdlib, topics, all, nor an installed package with
    sources.
    """
    wanted = set(names)
    if ALL in wanted:
        wanted = (wanted - {ALL}) | {STDLIB, TOPICS} | _all_installed()
    for name in sorted(wanted - {STDLIB, TOPICS}):
        if not _roots(name):
            raise RecipeError(
                f"corpus.packages: no sources of a package {name!r} are installed: install it, or"
                f" take {STDLIB}, {TOPICS}, {ALL} or another package"
            )
    return sorted(wanted)


def package_versions(packages: list[str]) -> dict[str, str]:
    """The version of each package by name; for stdlib and topics it is Python's."""
    return {name: _version(name) for name in packages}


def source_files(packages: list[str]) -> list[SourceFile]:
    """The Python files of the packages, by package and module; test folders are left out."""
    files: list[SourceFile] = []
    for package in packages:
        found = {file.module: file for root in _roots(package) for file in _walk(package, root)}
        files.extend(found[module] for module in sorted(found))
    return files


def _roots(name: str) -> list[Path]:
    """The folders, or the one file, of a package's sources; [] where there are none."""
    library = Path(sysconfig.get_path("stdlib"))
    if name == STDLIB:
        return [library]
    if name == TOPICS:
        return [library / "pydoc_data" / "topics.py"]
    if not name.isidentifier():
        return []
    # For a name without dots this looks the package up and does not run any of it.
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations if os.path.isdir(folder)]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _walk(package: str, root: Path) -> Iterator[SourceFile]:
    if root.is_file():
        module = "pydoc_data.topics" if package == TOPICS else package
        yield SourceFile(package, module, str(root), root.stat().st_size)
        return
    prefix = () if package == STDLIB else (package,)
    for folder, folders, names in os.walk(root):
        # A name that is no identifier is part of no dotted path.
        folders[:] = [
            name for name in folders if name.isidentifier() and name not in SKIPPED_FOLDERS
        ]
        parents = (*prefix, *Path(folder).relative_to(root).parts)
        for name in names:
            stem = name.removesuffix(".py")
            if stem == name or not stem.isidentifier():
                continue
            module = ".".join(parents if stem == "__init__" else (*parents, stem))
            path = os.path.join(folder, name)
            if module and module != "pydoc_data.topics" and os.path.isfile(path):
                yield SourceFile(package, module, path, os.path.getsize(path))


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def _all_installed() -> set[str]:
    names = {name for name in _distributions() if name.isidentifier() and name not in OURS}
    return {name for name in names if _roots(name)}


def _version(name: str) -> str:
    if name in (STDLIB, TOPICS):
        return platform.python_version()
    # A namespace such as `google` may belong to several distributions.
    versions = sorted(
        f"{owner} {importlib.metadata.version(owner)}"
        for owner in set(_distributions().get(name, []))
    )
    return ", ".join(versions) or "unknown"
