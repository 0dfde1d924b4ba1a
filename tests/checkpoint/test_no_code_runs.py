import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.checkpoint.saving import WEIGHT, save, whole
from tests.checkpoint.test_damage_is_found import FILES, reseal
from trainer.checkpoint import (
    diff_checkpoints,
    latest_checkpoint,
    list_checkpoints,
    open_checkpoint,
    resolve_checkpoint,
    rotate,
    verify_checkpoint,
)
from trainer.checkpoint.files import write_bytes
from trainer.checkpoint.report import diff_command, list_command, verify_command
from trainer.errors import CheckpointError


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._marker),)


def torch_pickle(marker: Path) -> bytes:
    file = marker.with_name("payload.pt")
    torch.save(Payload(marker), file)
    return file.read_bytes()


def plain_pickle(marker: Path) -> bytes:
    return pickle.dumps(Payload(marker))


kinds = pytest.mark.parametrize("kind", [plain_pickle, torch_pickle])


def use_everything(run: Path, path: Path) -> list[CheckpointError]:
    """Call all that reads a checkpoint; what was refused."""
    refused = []
    good = save(run, 1)
    actions: list[Callable[[], object]] = [
        lambda: latest_checkpoint(run),
        lambda: list_checkpoints(run),
        lambda: resolve_checkpoint(path),
        lambda: [open_checkpoint(path).read(key) for key in ("model/weight", "count")],
        lambda: [open_checkpoint(path).attachment(name) for name in FILES[1:3]],
        lambda: verify_checkpoint(path),
        lambda: verify_command(path),
        lambda: list_command(run),
        lambda: diff_checkpoints(good, path),
        lambda: diff_command(good, path),
        lambda: rotate(run, keep=5),
    ]
    for action in actions:
        try:
            action()
        except CheckpointError as error:
            refused.append(error)
    return refused


def saved(run: Path) -> Path:
    return save(run, 2, [whole("model/weight", WEIGHT), whole("count", torch.tensor(3))])


@kinds
@pytest.mark.parametrize("appended", [False, True], ids=["replaced", "appended"])
@pytest.mark.parametrize("file", FILES)
def test_a_planted_pickle_does_not_run_and_is_reported(
    tmp_path: Path, file: str, appended: bool, kind: Callable[[Path], bytes]
) -> None:
    """Would catch any reading path that unpickles: loading someone's checkpoint would run code."""
    path, marker = saved(tmp_path), tmp_path / "it ran"
    target = path / file
    target.write_bytes((target.read_bytes() if appended else b"") + kind(marker))
    refused = use_everything(tmp_path, path)
    assert not marker.exists()
    assert refused and all(file in str(error) for error in refused)
    assert any(file in fault for fault in verify_checkpoint(path))


@kinds
@pytest.mark.parametrize("file", FILES[:3])
def test_a_planted_pickle_does_not_run_even_with_right_hashes(
    tmp_path: Path, file: str, kind: Callable[[Path], bytes]
) -> None:
    """Would catch a reader that trusts what is sealed: whoever plants a file can seal it too."""
    path, marker = saved(tmp_path), tmp_path / "it ran"
    (path / file).unlink()
    stored = write_bytes(path / file, kind(marker))
    reseal(path, lambda body: body["files"].update({file: vars(stored)}))
    refused = use_everything(tmp_path, path)
    assert not marker.exists()
    if file.endswith(".safetensors"):
        assert any("is damaged" in str(error) for error in refused)
    assert verify_checkpoint(path) == []  # the hashes do fit: it was the format that refused


@kinds
def test_a_pickle_beside_the_checkpoint_is_reported_and_not_read(
    tmp_path: Path, kind: Callable[[Path], bytes]
) -> None:
    """Would catch a loader that takes in whatever lies in the folder, as `.metadata` once was."""
    path, marker = saved(tmp_path), tmp_path / "it ran"
    for name in (".metadata", "common.pt", "rank-00001.safetensors"):
        (path / name).write_bytes(kind(marker))
    use_everything(tmp_path, path)
    assert not marker.exists()
    assert len(verify_checkpoint(path)) == 3


def test_a_pickle_inside_the_manifest_stays_text(tmp_path: Path) -> None:
    """Would catch counters that are decoded into objects."""
    path, marker = saved(tmp_path), tmp_path / "it ran"
    text = plain_pickle(marker).decode("latin-1")
    reseal(path, lambda body: body["counters"].update(payload=text))
    assert open_checkpoint(path).counters["payload"] == text
    assert not marker.exists()


@kinds
def test_the_payload_does_run_where_it_is_unpickled(
    tmp_path: Path, kind: Callable[[Path], bytes]
) -> None:
    """Negative control: a payload that never runs would prove nothing."""
    marker = tmp_path / "it ran"
    file = tmp_path / "planted"
    file.write_bytes(kind(marker))
    if kind is torch_pickle:
        torch.load(file, weights_only=False)
    else:
        pickle.loads(file.read_bytes())
    assert marker.exists()
