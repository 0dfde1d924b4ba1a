"""What a verb that loads an engine leaves alone."""

import os
import shutil
import subprocess
import sys
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
            {"trainer.checkpoint.report"},
            ENGINES | CORPUS | MEASURING | {"megatron", "kernels"},
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


def test_a_stream_is_opened_without_the_kernels(tmp_path: Path) -> None:
    """Catches every kernel loaded by whoever only reads data: 36 files beside the 45 of it."""
    shutil.copytree(OLDER / "corpus", tmp_path / "corpus")
    program = (
        "import sys\nfrom trainer.data.stream import Stream\n"
        "stream = Stream([('corpus', 1.0)], sequence_length=32)\n"
        "assert stream.next(2, [0, 1]).tokens.shape == (2, 32)\n"
        "print(*sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    modules = answer.stdout.split()
    ours = {name for name in modules if name.split(".")[0] in {"trainer", "kernels", "launch"}}
    assert "trainer.data.batch" in ours
    assert not any(name.split(".")[0] in {"kernels", "launch"} for name in ours)
    assert len(ours) <= 60
