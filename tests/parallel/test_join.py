"""How ranks join each other, and wait for each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from trainer.parallel.join import barrier

TRAINER = Path(__file__).parents[2] / "trainer"


@pytest.mark.parametrize(("device", "expected"), [("cuda:3", [3]), ("cpu", None)])
def test_a_barrier_names_the_device_of_this_rank(
    device: str, expected: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches NCCL guessing the device by the global rank, which hangs where it is another's."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(dist, "barrier", lambda group, **words: calls.append(words))
    barrier(torch.device(device))
    assert calls == [{"device_ids": expected}]


def test_every_barrier_of_a_run_names_its_device() -> None:
    """Catches a new barrier that goes to torch past the one that names the device."""
    found = {
        str(path.relative_to(TRAINER))
        for path in TRAINER.rglob("*.py")
        if "dist.barrier(" in path.read_text(encoding="utf-8")
    }
    assert found == {"parallel/join.py"}
