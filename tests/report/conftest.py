"""The browser that the tests of the report share."""

from collections.abc import Iterator

import pytest

from tests.report.browser import Browser, browser_in


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests: to start it takes longer than to open a page."""
    with browser_in(tmp_path_factory.mktemp("browser")) as found:
        yield found
