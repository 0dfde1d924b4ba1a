"""The corpus that all runs of these tests share."""

from pathlib import Path

import pytest

from tests.training.runs import write_text


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_text(folder)
    return folder
