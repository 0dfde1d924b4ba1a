"""The families of kernels that can be benchmarked, compiled and tuned: the modules beside this."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import Protocol, cast

import torch

import kernels.bench
from kernels.bench.case import BenchCase, CompileCase, Sizes, TuneCase
from kernels.bench.checks.case import CheckCase
from kernels.bench.errors import BenchError

ALIASES = {
    "add_rms_norm": "rms_norm",
    "add_layer_norm": "layer_norm",
    "swiglu": "glu",
    "geglu": "glu",
    "grad_norm": "adamw",
}
"""Operators that are measured with the family of another one's name."""


class Family(Protocol):
    """A module kernels/bench/FAMILY.py."""

    def bench_cases(self, sizes: Sizes) -> Iterator[BenchCase]:
        """What is measured."""

    def check_cases(self, device: torch.device, small: bool) -> Iterator[CheckCase]:
        """What is held beside fp64; `small` leaves out production widths."""

    def compile_cases(self) -> Iterator[CompileCase]:
        """What must compile, and how well."""

    def tune_cases(self) -> Iterator[TuneCase]:
        """What can be tuned."""


def load(name: str) -> Family:
    """The family of that name, which `families` lists."""
    return cast(Family, importlib.import_module(f"{kernels.bench.__name__}.{name}"))


@cache
def families() -> tuple[str, ...]:
    """The names of all families, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(kernels.bench.__path__))
    return tuple(name for name in names if hasattr(load(name), "compile_cases"))


def chosen(name: str | None) -> tuple[str, ...]:
    """The one family of that name; all, where none is given. Raises BenchError."""
    if name is None:
        return families()
    name = ALIASES.get(name, name)
    if name not in families():
        near = difflib.get_close_matches(name, families(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(families())}"
        raise BenchError(f"no family of kernels is called {name!r}; {hint}")
    return (name,)
