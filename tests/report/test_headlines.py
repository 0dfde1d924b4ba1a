"""The figures that a report draws are those that the suites give."""

import pytest

from tests.evaluate.planted import Planted
from trainer.evaluate.suites import MODULES, load_suite
from trainer.evaluate.suites.suite import SuiteContext
from trainer.report.telling.evaluation import HEADLINES


@pytest.mark.parametrize("suite", HEADLINES)
def test_a_suite_gives_the_figures_that_are_drawn(suite: str) -> None:
    """Would catch a figure that was renamed, and silently vanished from every report."""
    given = load_suite(suite).figures(SuiteContext(Planted()))
    assert [name for name in HEADLINES[suite] if name not in given] == []


def test_every_suite_has_its_headlines() -> None:
    """Would catch a new suite of which a report draws whatever comes first."""
    assert set(HEADLINES) == set(MODULES)
