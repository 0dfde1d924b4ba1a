"""The checkpoints that all tests of merging share, by name."""

from pathlib import Path

import pytest

from tests.merging.models import Planned, save_models
from tests.parity.ranks import on_ranks


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    base = root / "base" / "checkpoints" / "step-00000001"
    bf16 = {"precision": "bf16"}
    tied = {"model__tied_embeddings": True}
    plans = {
        "base": Planned(root / "base", 1),
        "other": Planned(root / "other", 2),
        "third": Planned(root / "third", 3),
        "bf16": Planned(root / "bf16", 4, bf16),
        "tied": Planned(root / "tied", 5, tied),
        "padded": Planned(root / "padded", 6, {"model__vocab": 290, "model__padding_rows": 2}),
        "grown": Planned(root / "grown", 7, {"model__vocab": 291}, added=("<a>", "<b>")),
        "deeper": Planned(root / "deeper", 8, {"model__layers": 4}),
        "wider": Planned(root / "wider", 9, {"model__vocab": 296}),
        "foreign": Planned(root / "foreign", 10, text="other words make up another vocabulary"),
        "rope": Planned(root / "rope", 11, {"model__rope_theta": 5e5}),
        "adapter": Planned(root / "adapter", 12, base=base),
        "adapter 2": Planned(root / "adapter-2", 13, base=base),
    }
    folders = on_ranks(1, save_models, list(plans.values()))[0]
    return dict(zip(plans, folders, strict=True))
