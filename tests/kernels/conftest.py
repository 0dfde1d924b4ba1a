"""Kernel tests run Triton's kernels: on a GPU where there is one, else in the interpreter."""

import os
from collections.abc import Iterator

import pytest
import torch

from kernels import dispatch


@pytest.fixture
def device() -> torch.device:
    """Where kernels are tested."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def triton_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Public functions run their Triton kernels, on the CPU too."""
    monkeypatch.setattr(dispatch, "MODE", "triton")


@pytest.fixture(autouse=True)
def poisoned_outputs() -> Iterator[None]:
    """Memory that a launcher allocates holds NaN until a kernel writes it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def seed() -> int:
    """Fresh random inputs each run; pytest prints the seed of a test that fails."""
    chosen = int(os.environ.get("LYCEUM_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"inputs drawn with LYCEUM_TEST_SEED={chosen}")
    torch.manual_seed(chosen)
    return chosen
