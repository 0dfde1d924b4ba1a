"""The packages that know the world, which are an extra."""

from importlib import import_module
from typing import Any

from trainer.evaluate.suites.suite import SuiteUnavailable


def package(name: str) -> Any:
    """The package pycountry or periodictable; raises SuiteUnavailable without it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise SuiteUnavailable(
            f"questions about the world need the package {name}: pip install 'lyceum[evaluate]'"
        ) from error
