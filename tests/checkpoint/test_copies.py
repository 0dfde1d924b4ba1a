"""Copies of checkpoints are whole where they are named, and one that fails ends nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import trainer.checkpoint.copies
from tests.checkpoint.saving import save, whole
from tests.data.remote.servers import s3_server
from trainer.checkpoint import list_checkpoints, verify_checkpoint
from trainer.checkpoint.copies import (
    CheckpointCopier,
    FinishedCopy,
    FolderTarget,
    require_target,
    target_of,
)
from trainer.data.remote.storage import s3_client
from trainer.errors import RecipeError


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an empty bucket of a real S3 server."""
    import boto3

    with s3_server(monkeypatch):
        s3_client.cache_clear()
        boto3.client("s3").create_bucket(Bucket="keep")
        yield "keep"
    s3_client.cache_clear()


def copied(copy_to: str, run: Path, *checkpoints: Path) -> list[FinishedCopy]:
    copier = CheckpointCopier(copy_to, run)
    ended = []
    for checkpoint in checkpoints:
        copier.offer(checkpoint)
        copier.wait(lambda: None)
        ended += copier.ended()
    copier.close()
    return ended


def test_a_copy_in_a_folder_is_a_checkpoint(tmp_path: Path) -> None:
    """Catches a copy that cannot be resumed from, and an older one that is in the way."""
    run = tmp_path / "run"
    three = save(run, 3)
    ended = copied(str(tmp_path / "far"), run, three, three, save(run, 4))
    assert [(one.step, one.error) for one in ended] == [(3, None), (3, None), (4, None)]
    assert ended[0].nbytes > 96 and ended[1].nbytes == 0, "it is there already"
    again = save(run, 4, [whole("model/weight", torch.zeros(2, 3))])
    assert copied(str(tmp_path / "far"), run, again)[0].nbytes > 0, "another course came there"
    there = list_checkpoints(tmp_path / "far" / "run")
    assert [one.step for one in there] == [3, 4]
    assert all(verify_checkpoint(one.path) == [] for one in there)
    assert len(list((tmp_path / "far" / "run" / "checkpoints").iterdir())) == 2


def test_a_copy_in_a_bucket_is_whole(tmp_path: Path, bucket: str) -> None:
    """Catches a manifest that is there before its files, and names that lose their folder."""
    import boto3

    run = tmp_path / "run"
    three = save(run, 3)
    ((step, error),) = [(one.step, one.error) for one in copied(f"s3://{bucket}/a/b", run, three)]
    assert (step, error) == (3, None)
    client = boto3.client("s3")
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    prefix = "a/b/run/checkpoints/step-00000003"
    files = [path.relative_to(three) for path in three.rglob("*") if path.is_file()]
    assert {one["Key"] for one in listed} == {f"{prefix}/{name}" for name in files}
    for name in files:
        body = client.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read()
        assert body == (three / name).read_bytes()


def test_what_is_not_there_as_it_was_written_is_tried_again_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a copy that nobody has read, and one whose half has the checkpoint's name."""
    monkeypatch.setattr(trainer.checkpoint.copies, "RETRIES_SECONDS", (0.0, 0.0))
    run = tmp_path / "run"
    three = save(run, 3)
    name = "rank-00000.safetensors"
    content = bytearray((three / name).read_bytes())
    content[-1] ^= 1
    (three / name).write_bytes(content)  # as a disk does that answers with something else
    (ended,) = copied(str(tmp_path / "far"), run, three)
    assert f"{name} was altered (its sha256 differs)" in str(ended.error)
    assert caplog.text.count("it is tried again in 0 s") == 2
    assert list_checkpoints(tmp_path / "far" / "run") == []
    assert list((tmp_path / "far" / "run" / "checkpoints").iterdir()) == []


def test_where_it_is_behind_the_newest_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a queue that grows behind a slow store."""
    import threading

    run, room, put = tmp_path / "run", threading.Event(), FolderTarget.put
    begun = threading.Event()

    def waiting(target: FolderTarget, *rest: object) -> None:
        begun.set()
        assert room.wait(60)
        put(target, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderTarget, "put", waiting)
    copier = CheckpointCopier(str(tmp_path / "far"), run)
    copier.offer(save(run, 1))
    assert begun.wait(60)
    copier.offer(save(run, 2))
    copier.offer(save(run, 3))
    room.set()
    copier.wait(lambda: None)
    copier.close()
    assert [one.step for one in copier.ended()] == [1, 3]
    assert "step-00000002 is not copied" in caplog.text


def test_a_target_that_cannot_be_written_is_one_line(tmp_path: Path, bucket: str) -> None:
    """Catches a bucket without permission, found after the first checkpoint."""
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    for copy_to, said in (
        (str(tmp_path / "file"), "make it writable"),
        ("gs://bucket/a", "gs:// cannot be written"),
        ("s3://nobody/a", "look at bucket, credentials"),
        ("s3:///a", "names no bucket"),
        (str(tmp_path), "lies in the run itself"),
        (str(tmp_path / "run" / "copies"), "lies in the run itself"),
    ):
        with pytest.raises(RecipeError, match=r"checkpoint\.copy_to") as failure:
            require_target(copy_to, tmp_path / "run")
        assert said in str(failure.value) and "\n" not in str(failure.value)
    require_target(f"s3://{bucket}", tmp_path / "run")
    require_target(str(tmp_path / "far"), tmp_path / "run")
    assert target_of(f"s3://{bucket}", tmp_path / "run")._prefix == "run/checkpoints"  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", ["far", "s3"])
def test_another_run_of_the_same_name_is_refused(tmp_path: Path, bucket: str, where: str) -> None:
    """Catches two runs whose copies replace each other's."""
    copy_to = f"s3://{bucket}/a" if where == "s3" else str(tmp_path / "far")
    for folder in ("one", "two"):
        (tmp_path / folder / "run").mkdir(parents=True)
    require_target(copy_to, tmp_path / "one" / "run")
    require_target(copy_to, tmp_path / "one" / "run")
    with pytest.raises(RecipeError, match="holds the copies of another run named run"):
        require_target(copy_to, tmp_path / "two" / "run")
