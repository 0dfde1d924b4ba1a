"""The stored reference where several runs share a set."""

from pathlib import Path

import numpy as np
import pytest

import trainer.stages.reference
from tests.conversations.talks import TRAINED
from tests.parity.ranks import on_ranks
from tests.stages.peers import Passed, Work, network, pass_batches, set_recipe, weights_of
from trainer.conversations.sets import ensure_set
from trainer.data.manifest import Shard
from trainer.data.references import DONE, read_references, write_references

PAIRS = [
    {"prompt": f"What is {number}?", "chosen": f" It is {number}.", "rejected": " No."}
    for number in range(4)
]


def pass_while_another_stores(work: Work) -> Passed:
    """A batch, as if another run's references came between the looks of this run's ranks."""
    import torch.distributed as dist

    trainer.stages.reference.has_references = lambda folder: dist.get_rank() == 1
    return pass_batches([work])[0]


def test_ranks_agree_whether_the_references_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a rank that goes on while the others wait for it to compute with them."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    keys = {"sequence_length": 64, "parallel": {"tensor": 2}, "batch": {"sequences": 2, "micro": 1}}
    recipe = set_recipe(tmp_path, "preference", PAIRS, TRAINED, **keys)
    folder, weights = ensure_set(recipe, recipe.data.mixture[0].corpus), weights_of(network(0))
    first, second = on_ranks(2, pass_while_another_stores, Work(recipe, [folder], weights, weights))
    assert first.loss == second.loss == pytest.approx(np.log(2.0), abs=1e-6)


def test_references_that_another_run_stored_stay(tmp_path: Path) -> None:
    """Catches values replaced under a run that trains with them and knows their sha256."""
    folder, values = tmp_path / "references" / "key", np.ones((3, 2), dtype=np.float32)
    write_references(folder, {"train-0.tar": values}, {"init_from": "a base"})
    told = (folder / DONE).read_bytes()
    write_references(folder, {"train-0.tar": values + 1e-6}, {"init_from": "a base"})
    assert (folder / DONE).read_bytes() == told
    shard = Shard("train-0.tar", bytes=0, sha256="", index_sha256="", documents=3, tokens=6)
    assert np.array_equal(read_references(folder, shard, 2), values)
