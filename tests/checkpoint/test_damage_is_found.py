import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoint.ranks import run_ranks
from tests.checkpoint.saving import WEIGHT, save, whole
from trainer.checkpoint import (
    CheckpointReader,
    Piece,
    latest_checkpoint,
    list_checkpoints,
    open_checkpoint,
    resolve_checkpoint,
    verify_checkpoint,
)
from trainer.errors import CheckpointError

FILES = ["rank-00000.safetensors", "recipe.yaml", "tokenizer/tokenizer.json", "checkpoint.json"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" more")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", [truncate, flip_last_bit, append, Path.unlink])
def test_any_change_to_any_file_is_found_and_named(
    tmp_path: Path, harm: Callable[[Path], None], file: str
) -> None:
    """Would catch training that goes on from damaged weights or counters."""
    path = save(tmp_path, 1)
    open_checkpoint(path)  # negative control: nothing is wrong with it before
    harm(path / file)
    with pytest.raises(CheckpointError, match=file) as failure:
        open_checkpoint(path)
    assert "\n" not in str(failure.value)
    assert [file in fault for fault in verify_checkpoint(path)] == [True]


@pytest.mark.parametrize("harm", [truncate, append, Path.unlink])
def test_the_newest_good_checkpoint_is_the_one_before(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Would catch a resume that stops at a damaged newest checkpoint though a good one is there."""
    good, damaged = save(tmp_path, 1), save(tmp_path, 2)
    harm(damaged / "rank-00000.safetensors")
    assert latest_checkpoint(tmp_path) == resolve_checkpoint(tmp_path) == good
    assert [c.problem is None for c in list_checkpoints(tmp_path)] == [True, False]


def test_no_tensor_of_an_altered_file_is_used_unverified(tmp_path: Path) -> None:
    """Would catch a reader that forgets the hash when nobody calls verify."""
    path = save(tmp_path, 1)
    flip_last_bit(path / "rank-00000.safetensors")
    flip_last_bit(path / "recipe.yaml")
    reader = CheckpointReader(path)
    with pytest.raises(CheckpointError, match=r"rank-00000\.safetensors was altered"):
        reader.read("model/weight")
    with pytest.raises(CheckpointError, match=r"recipe\.yaml was altered"):
        reader.attachment("recipe.yaml")


def test_all_ranks_refuse_what_one_rank_finds(tmp_path: Path) -> None:
    """Would catch one rank that stops while the others wait for it in a collective."""
    path = tmp_path / "checkpoints" / "step-00000001"

    def save_row(rank: int) -> None:
        save(tmp_path, 1, [Piece("w", (3, 6), (rank, 0), WEIGHT[rank : rank + 1])])

    def load(rank: int) -> str:
        with pytest.raises(CheckpointError) as failure:
            open_checkpoint(path if rank else broken)
        return str(failure.value)

    run_ranks(3, save_row, tmp_path)
    flip_last_bit(path / "rank-00001.safetensors")
    broken = path
    assert all(
        "rank-00001.safetensors was altered" in line for line in run_ranks(3, load, tmp_path)
    )
    broken = tmp_path / "nowhere"
    assert all("nowhere does not exist" in line for line in run_ranks(3, load, tmp_path))


def test_the_hashing_is_shared_among_the_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch every rank reading the whole checkpoint."""
    import trainer.checkpoint.read as read

    hashed: list[str] = []
    original = read.hash_fault

    def noted(folder: Path, name: str, stored: Any) -> str | None:
        hashed.append(name)
        return original(folder, name, stored)

    def save_row(rank: int) -> None:
        save(tmp_path, 1, [Piece("w", (2, 6), (rank, 0), WEIGHT[rank : rank + 1])])

    def load(_: int) -> list[str]:
        open_checkpoint(tmp_path / "checkpoints" / "step-00000001")
        return hashed

    run_ranks(2, save_row, tmp_path)
    monkeypatch.setattr(read, "hash_fault", noted)
    first, second = run_ranks(2, load, tmp_path)
    files = ["rank-00000.safetensors", "rank-00001.safetensors", *FILES[1:3]]
    assert sorted(first + second) == sorted(files)
    assert first and second


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest as somebody would who knows the format: its own sha256 is right again."""
    body = json.loads((path / "checkpoint.json").read_text())
    del body["sha256"]
    change(body)
    seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (path / "checkpoint.json").write_text(json.dumps({**body, "sha256": seal}))


def first_piece(body: dict[str, Any]) -> dict[str, Any]:
    piece: dict[str, Any] = body["tensors"]["model/weight"]["pieces"][0]
    return piece


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another format": (lambda body: body.update(format="other/2"), "not of the format"),
    "no tensors": (lambda body: body.pop("tensors"), "damaged"),
    "tensors a list": (lambda body: body.update(tensors=[1]), "damaged"),
    "step a word": (lambda body: body.update(step="one"), "damaged"),
    "shape a fraction": (lambda body: first_piece(body).update(shape=[4.5, 6]), "integers"),
    "a hole": (lambda body: first_piece(body).update(shape=[3, 6]), "leave a hole"),
    "outside": (lambda body: first_piece(body).update(offset=[1, 0]), "is outside"),
    "unknown dtype": (
        lambda body: body["tensors"]["model/weight"].update(dtype="object"),
        "unknown dtype",
    ),
    "a file elsewhere": (
        lambda body: body["files"].update({"../../etc/passwd": {"bytes": 1, "sha256": ""}}),
        "not a relative path",
    ),
    "a piece elsewhere": (lambda body: first_piece(body).update(file="/etc/passwd"), "not in its"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, change: str) -> None:
    """Would catch a stack trace, or a file outside the folder, from a malformed manifest."""
    path = save(tmp_path, 1)
    reseal(path, lambda _: None)
    open_checkpoint(path)  # negative control: resealing alone does no harm
    action, fault = CHANGES[change]
    reseal(path, action)
    with pytest.raises(CheckpointError, match=fault):
        open_checkpoint(path)


def test_a_manifest_that_belongs_to_other_tensors_is_refused(tmp_path: Path) -> None:
    """Would catch a tensor read in another dtype or shape than was saved."""
    path = save(tmp_path, 1, [whole("model/weight", torch.zeros(4, 6))])
    reseal(path, lambda body: body["tensors"]["model/weight"].update(dtype="int32"))
    with pytest.raises(CheckpointError, match="not what the manifest says"):
        open_checkpoint(path).read("model/weight")
    reseal(path, lambda body: first_piece(body).update(name="other"))
    with pytest.raises(CheckpointError, match="is damaged"):
        open_checkpoint(path).read("model/weight")


def test_json_of_endless_depth_is_refused(tmp_path: Path) -> None:
    """Would catch a parser that runs out of stack."""
    path = save(tmp_path, 1)
    (path / "checkpoint.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="not JSON"):
        open_checkpoint(path)
