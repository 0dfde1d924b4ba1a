"""Which places of a machine have a rank, from one start to the next."""

from pathlib import Path

import pytest

from launch.local import _with_device
from launch.places import PLACE, RankPlaces
from tests.training.runs import recipe_of
from trainer.errors import RankFailed


def places(folder: Path, count: int, minimum: int | None = 1, device: str = "cpu") -> RankPlaces:
    """Those of a run whose batch of eight micro-batches is shared by 1, 2, 4 or 8."""
    recipe = recipe_of(folder, folder, batch__micro=1, recovery__minimum_replicas=minimum)
    return RankPlaces(recipe, count, device)


def fail(found: RankPlaces, rank: int | None, stepped: bool = False, left: int = 5) -> list[int]:
    """The places of the next start behind a rank's failure."""
    error = RankFailed("it failed")
    error.rank = rank
    assert found.too_few(error, stepped, left) is None
    return found.used


def test_a_place_that_fails_twice_in_a_row_before_a_step_is_left_out(tmp_path: Path) -> None:
    """Catches a dead device that uses up all restarts, and a sound one given up for one failure."""
    found = places(tmp_path, 8)
    assert found.used == list(range(8))
    assert fail(found, 3, stepped=True) == list(range(8)), "it failed in training"
    assert fail(found, 3) == list(range(8)), "once"
    assert fail(found, 5) == list(range(8)), "another"
    assert fail(found, None) == list(range(8)), "nobody knows which"
    assert fail(found, 3) == list(range(8))
    assert fail(found, 3) == [0, 1, 2, 4], "seven are left, and four of them share the batch"
    assert fail(found, 3) == [0, 1, 2, 4] and fail(found, 3) == [0, 1, 2, 5], "rank 3 is place 4"


def test_a_run_grows_back_behind_a_failure_in_training(tmp_path: Path) -> None:
    """Catches a run that stays small for ever, or that spends its last restart on a dead device."""
    found = places(tmp_path, 4)
    fail(found, 1)
    assert fail(found, 1) == [0, 2]
    assert fail(found, 0, stepped=True, left=0) == [0, 2], "no restart is left to go back"
    assert fail(found, 0, stepped=True, left=1) == [0, 1, 2, 3]
    assert fail(found, 1) == [0, 2], "once is enough now"
    assert fail(found, 0, stepped=True) == [0, 1, 2, 3]
    assert fail(found, 1, stepped=True) == [0, 1, 2, 3], "it trained"
    assert fail(found, 1) == [0, 1, 2, 3]


def test_more_ranks_than_share_the_batch_are_not_started(tmp_path: Path) -> None:
    """Catches a run refused as the machine has seven devices, though four may train."""
    assert places(tmp_path, 7).used == [0, 1, 2, 3]
    assert places(tmp_path, 7, minimum=None).used == list(range(7)), "refused where it begins"


def test_ranks_see_the_devices_of_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a dead GPU that is given to the next rank."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = places(tmp_path, 4, device="cuda")
    assert found.environment(1) == {PLACE: "1"}
    fail(found, 0)
    fail(found, 0)
    assert found.environment(1) == {PLACE: "2", "CUDA_VISIBLE_DEVICES": "1,2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c,GPU-d")
    assert found.environment(0) == {PLACE: "1", "CUDA_VISIBLE_DEVICES": "GPU-b,GPU-c"}


def test_a_command_for_eight_gpus_goes_on_with_those_that_are_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a job that a scheduler begins again on a machine with a dead GPU, and that ends."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 7)
    assert _with_device(8) == 7 and _with_device(4) == 4
    assert caplog.messages == ["of 8 ranks 7 have a GPU on this machine"]
