"""What a verb that loads an engine leaves alone."""

import shutil
from pathlib import Path

import pytest

from tests.loaded import ROOT, modules_after

OLDER = ROOT / "tests" / "compatibility" / "older"

COMPILER = {"torch._dynamo", "torch._inductor.compile_fx"}
ENGINES = {"torch", "triton", "megatron.core", "deepspeed", "transformers", "tensorboard"}
CORPUS = {"datatrove", "pyarrow", "webdataset", "spacy", "s3fs", "aiohttp", "requests"}
MEASURING = {"trainer.bench", "trainer.doctor", "trainer.demo", "matplotlib"}


@pytest.mark.parametrize(
    ("verb", "used", "unused"),
    [
        ("corpus inspect corpus", {"numpy"}, ENGINES | MEASURING | {"trainer.model", "kernels"}),
        (
            "checkpoint ls runs/pretrain",
            {"trainer.checkpoint"},
            COMPILER | CORPUS | MEASURING | {"megatron", "kernels"},
        ),
        (
            "generate runs/pretrain --prompt a --tokens 2",
            {"megatron.core", "kernels.rope"},
            COMPILER | CORPUS | MEASURING | {"deepspeed", "transformers", "trainer.start"},
        ),
        (
            # Its steps evaluate and write TensorBoard; one replica has nobody to share state with.
            "train pretrain.yaml",
            {"megatron.core", "tensorboard"},
            COMPILER | CORPUS | MEASURING | {"deepspeed", "transformers"},
        ),
    ],
)
def test_a_verb_loads_nothing_that_it_does_not_use(
    tmp_path: Path, verb: str, used: set[str], unused: set[str]
) -> None:
    """Catches an import at the head of a file that makes every start of a verb slower.

    `used`, loaded inside functions, shows that the probe sees what a verb loads.
    """
    folder = tmp_path / "older"
    shutil.copytree(OLDER, folder)
    modules = modules_after(*verb.split(), folder=folder)
    assert used <= modules
    assert modules & unused == set()
