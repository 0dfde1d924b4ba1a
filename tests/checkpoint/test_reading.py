"""Each file is hashed once before it is believed, and read without a copy that nobody owns."""

from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.checkpoint.read
from tests.checkpoint.saving import save, whole
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer.checkpoint import Piece, open_checkpoint
from trainer.checkpoint.files import hash_fault
from trainer.checkpoint.format import StoredFile
from trainer.recipe import Recipe


def test_what_is_not_owned_has_the_same_values(tmp_path: Path) -> None:
    """Catches a lent box of another piece, and an owner who spoils what others read."""
    tensor = torch.randn(6, 8)
    halves = [Piece("cut", (6, 8), (0, start), tensor[:, start : start + 4]) for start in (0, 4)]
    number = whole("number", torch.tensor(3.0))
    reader = open_checkpoint(save(tmp_path, 1, [whole("whole", tensor), *halves, number]))
    boxes = [(None, None), ((0, 0), (6, 4)), ((2, 4), (3, 4)), ((1, 2), (4, 5)), ((0, 0), (6, 8))]
    for key in ("whole", "cut"):
        for offset, shape in boxes:
            for dtype in (None, torch.bfloat16):
                owned = reader.read(key, offset, shape, dtype)
                lent = reader.read(key, offset, shape, dtype, own=False)
                assert owned.dtype == lent.dtype and torch.equal(owned, lent)
                owned.fill_(7.0)
                assert torch.equal(reader.read(key, offset, shape, dtype, own=False), lent)
    assert reader.read("number", own=False).item() == 3.0


def test_what_is_not_owned_is_not_copied(tmp_path: Path) -> None:
    """Catches a copy beside the file's own pages, which a load of large state would wait for."""
    reader = open_checkpoint(save(tmp_path, 1, [whole("whole", torch.randn(6, 8))]))
    first, second = (reader.read("whole", own=False).data_ptr() for _ in range(2))
    assert first == second
    copies = [reader.read("whole") for _ in range(2)]
    assert copies[0].data_ptr() != copies[1].data_ptr()


def hashes_of_a_resume(recipe: Recipe) -> list[str]:
    """The files of checkpoints that this rank hashes while a run is begun again."""
    hashed: list[str] = []
    fault = hash_fault

    def counted(folder: Path, name: str, stored: StoredFile) -> Any:
        hashed.append(name)
        return fault(folder, name, stored)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.checkpoint.read, "hash_fault", counted)
        assert train_here(recipe) is None
    return hashed


def test_a_resume_hashes_each_file_once(tmp_path: Path) -> None:
    """Catches tensors that are hashed twice: a month's checkpoint takes minutes each time."""
    write_text(tmp_path)
    recipe = recipe_of(tmp_path / "run", tmp_path, steps=2, zero__stage=1)
    assert on_ranks(2, train_here, recipe) == [None, None]
    longer = recipe_of(tmp_path / "run", tmp_path, steps=3, schedule__length=2, zero__stage=1)
    hashed = [name for names in on_ranks(2, hashes_of_a_resume, longer) for name in names]
    tensors = [name for name in hashed if name.endswith(".safetensors")]
    assert sorted(tensors) == ["rank-00000.safetensors", "rank-00001.safetensors"]
