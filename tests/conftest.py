"""What every test of the suite can rely on, and the order in which `make test` hands files out."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Set before torch is imported: two workers of two threads each fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Hundreds of processes that tests start would each compile our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Imports make millions of objects and no garbage; `pytest_collection_finish` enables it again.
gc.disable()

FOLDER = Path(__file__).parent

LONGEST = (
    "kernels/test_gate.py",
    "parity/test_parity.py",
    "training/test_fine_tuning.py",
    "model/test_compiled.py",
    "training/test_resume.py",
    "training/test_lost_nodes.py",
    "demo/test_demo.py",
    "training/test_lora_run.py",
    "training/test_lora_end_to_end.py",
    "bench/test_gpu_script.py",
    "training/test_waits.py",
    "parity/test_lora_parity.py",
    "kernels/test_attention.py",
)
"""The files that take longest, longest first: begun last, one would run on alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """A shell's background jobs ignore Ctrl-C, and what they start inherits that: undo it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported stays to the end: the collector need not go through it again."""
    gc.enable()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under pytest-xdist the longest files come first; alone, all stay in their order."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    turn = {FOLDER / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turn.get(item.path, len(turn)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `gpu` where there are fewer than its `count` (of 1), with its reason."""
    marker = item.get_closest_marker("gpu")
    if marker is None:
        return
    import torch

    if torch.cuda.device_count() < marker.kwargs.get("count", 1):
        pytest.skip(f"needs a GPU: {marker.kwargs['reason']}")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests cache lies in this process's own folder, not in the user's or another worker's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYCEUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
