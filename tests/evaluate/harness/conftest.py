"""A tiny model of ours and of transformers, for lm-eval's tasks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluate.harness.by_transformers import ByTransformers
from tests.evaluate.harness.cases import POSITIONS, make_folder
from trainer.data.tokenizer import Tokenizer, load_tokenizer
from trainer.hugging_face.config import read_config
from trainer.recipe.model import ModelSection


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("harness") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> tuple[Tokenizer, ModelSection]:
    return load_tokenizer(folder), read_config(folder)[0].model


@pytest.fixture(scope="module")
def respondent(folder: Path) -> ByTransformers:
    return ByTransformers(folder, POSITIONS)


@pytest.fixture(scope="module", autouse=True)
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the library `datasets` puts its copies, which is not the user's cache."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("data"))
        yield
