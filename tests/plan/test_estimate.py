from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.checkpoint.saving import save, whole
from tests.observe.starting import recipe
from trainer.checkpoint import list_checkpoints
from trainer.observe.throughput import GIB
from trainer.plan.estimate import disk_warning, estimate
from trainer.plan.size import parameter_count

BIG: dict[str, Any] = {
    "model": {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336},
    "precision": "bf16",
    "sequence_length": 8192,
    "batch": {"sequences": 64, "micro": 1},
}
VOCAB = 128256


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_take_the_bytes_that_zero_promises(stage: int, precision: str) -> None:
    """Would catch an estimate that forgets masters, or divides what is not divided."""
    needed = estimate(recipe(zero={"stage": stage}, precision=precision), 2, 256)
    count = parameter_count(recipe().model, 256)["total"]
    weight = 4 if precision == "fp32" else 2
    master = 0 if (precision, stage) == ("fp32", 0) else 4
    held = count * GIB**-1
    assert needed.weights_gib == pytest.approx(held * weight / (2 if stage == 3 else 1), rel=0.01)
    assert needed.gradients_gib == pytest.approx(held * 4, rel=0.01)
    shards = 2 if stage else 1
    assert needed.optimizer_gib == pytest.approx(held * (master + 8) / shards, rel=0.01)


def test_model_parallel_ranks_share_the_model() -> None:
    """Would catch a large model said not to fit where it does."""
    one = estimate(recipe(**BIG), 1, VOCAB)
    split = estimate(recipe(**BIG, parallel={"tensor": 8, "pipeline": 2}), 16, VOCAB)
    assert one.parameters == 8_030_261_248  # Llama 3 8B
    assert split.weights_gib < one.weights_gib / 14
    assert split.memory_gib_per_rank < one.memory_gib_per_rank / 8
    assert 80 < one.memory_gib_per_rank - one.activations_gib < 150


def test_recomputation_lowers_the_activations() -> None:
    """Would catch a setting that the estimate ignores."""
    sizes = {
        kind: estimate(recipe(**BIG, recompute=kind), 1, VOCAB).activations_gib
        for kind in ("none", "mlp", "attention", "full")
    }
    assert sizes["none"] > sizes["attention"] > sizes["full"]
    assert sizes["none"] > sizes["mlp"] > sizes["full"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_takes_what_was_estimated(tmp_path: Path, precision: str) -> None:
    """Would catch a disk that fills because the estimate left a tensor out."""
    count = parameter_count(recipe().model, 256)["total"]
    weight = torch.zeros(count, dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
    names = ["exp_avg", "exp_avg_sq"] + (["master"] if precision == "bf16" else [])
    states = [whole(f"optimizer/{name}/all", torch.zeros(count)) for name in names]
    save(tmp_path, 1, [whole("model/all", weight), *states])
    needed = estimate(recipe(precision=precision), 1, 256)
    (listed,) = list_checkpoints(tmp_path)
    assert listed.bytes / GIB == pytest.approx(needed.checkpoint_gib, rel=0.01)


@pytest.mark.parametrize(
    ("checkpoint", "count"),
    [({"keep": 3}, 4), ({"keep": 0}, 2), ({"keep": 0, "every": 2}, 6), ({"keep": 1}, 2)],
)
def test_disk_counts_those_kept_and_the_one_being_written(
    checkpoint: dict[str, int], count: int
) -> None:
    """Would catch a disk that is full at the first rotation."""
    assert estimate(recipe(checkpoint=checkpoint), 1, 256).checkpoints == count


def test_a_disk_without_room_is_told_before_it_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a night's run that ends at its first checkpoint."""
    needed = estimate(recipe(**BIG), 8, VOCAB)
    run = tmp_path / "not" / "there yet"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**40))
    assert disk_warning(needed, run) is None
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**34))
    warning = disk_warning(needed, run)
    assert warning is not None and "16.0 GiB free" in warning and "\n" not in warning


def test_the_lines_say_what_will_be_read() -> None:
    """Would catch a count of tokens off by the batch."""
    lines = estimate(recipe(), 1, 256).lines()
    assert f"{10 * 8 * 32:,} tokens" in lines[0]
