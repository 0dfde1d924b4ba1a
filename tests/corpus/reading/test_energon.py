"""Folders that energon prepared: which tars are for what, and where the text stands."""

import json
from pathlib import Path

import pytest
import yaml

from tests.corpus.reading.tars import texts_tar
from tests.data.remote.servers import web_server
from trainer.corpus.reading.webdataset import is_webdataset, tar_input
from trainer.data.remote.location import place
from trainer.errors import DataError

SPLIT = {
    "exclude": ["shards/s-3.tar", "shards/s-0.tar/000001"],
    "split_parts": {
        "train": ["shards/s-{0..1}.tar", "shards/s-3.tar"],
        "val": ["shards/s-2.tar"],
        "test": ["shards/s-4.tar"],
    },
}


def prepared(folder: Path, about: dict[str, object], info: str = ".info.json") -> Path:
    """A folder as `energon prepare` leaves it; `info`: the name of its counts, old or new."""
    for number in range(5):
        texts_tar(folder / f"shards/s-{number}.tar", [f"{number} {n}" for n in range(3)])
    meta = folder / ".nv-meta"
    meta.mkdir()
    (meta / "split.yaml").write_text(yaml.safe_dump(SPLIT))
    (meta / "dataset.yaml").write_text(yaml.safe_dump(about))
    counts = {"shard_counts": {f"shards/s-{n}.tar": 3 for n in range(5)}}
    write = json.dumps if info.endswith(".json") else yaml.safe_dump
    (meta / info).write_text(write(counts))
    return folder


@pytest.mark.parametrize("info", [".info.json", ".info.yaml"])
def test_its_parts_exclusions_and_field_map_are_read(tmp_path: Path, info: str, caplog) -> None:
    """Would catch validation tars trained on, an excluded tar read, or a field map not seen."""
    about = {
        "sample_type": {"__class__": "TextSample"},
        "field_map": {"text": "json[meta][pages][0]"},
    }
    folder = prepared(tmp_path / "set", about, info)
    assert is_webdataset(str(folder))
    found = tar_input([str(folder)], None, "key")
    listed = {split: [file.path for file in files] for split, files in found.files.items()}
    tar = f"{folder}/shards/s-%d.tar"
    assert listed == {"train": [tar % 0, tar % 1], "validation": [tar % 2]}
    assert found.excluded == {f"{tar % 0}:000001"}
    assert found.samples[tar % 1] == 3
    assert list(map(str, found.members)) == ["json[meta][pages][0]"]
    assert "its parts test (1 tars) are not read" in caplog.text
    assert [str(one) for one in tar_input([str(folder)], "txt", "key").members] == ["txt"]
    assert set(tar_input([str(folder)], None, "key", train_only=True).files) == {"train"}
    assert "val (1 tars)" in caplog.text
    split = SPLIT | {"split_parts": {"train": ["shards/s-0.tar"], "val": [], "test": []}}
    (folder / ".nv-meta/split.yaml").write_text(yaml.safe_dump(split))
    caplog.clear()
    assert tar_input([str(folder)], None, "key") and not caplog.text, "empty parts lose nothing"


def test_a_remote_folder_says_the_same(tmp_path: Path) -> None:
    """Would catch a folder that is known on a disk alone."""
    folder = prepared(tmp_path / "set", {"field_map": {"caption": "txt"}})
    local = tar_input([str(folder)], None, "key")
    with web_server(tmp_path) as server:
        remote = tar_input([f"{server.url}/set"], None, "key")
        assert place(f"{server.url}/set/shards/s-0.tar") == remote.files["train"][0].path
    assert remote.members == local.members
    assert [file.bytes for file in remote.files["train"]] == [
        file.bytes for file in local.files["train"]
    ]
    assert len(remote.excluded) == 1


def test_what_cannot_be_followed_is_one_line(tmp_path: Path) -> None:
    """Would catch Python of a data set that is run, a blend taken for a set, and damage."""
    folder = prepared(tmp_path / "set", {"sample_loader": "sample_loader.py:load"})
    with pytest.raises(DataError, match=r"^key: a sample loader in \.nv-meta"):
        tar_input([str(folder)], None, "key")
    assert tar_input([str(folder)], "txt", "key").files["train"]
    meta = folder / ".nv-meta"
    (meta / "dataset.yaml").write_text("field_map: {image: jpg, context: 'json[q]', answers: txt}")
    with pytest.raises(DataError, match=r"^key: .* fills image, context, answers, and neither"):
        tar_input([str(folder)], None, "key")
    assert tar_input([str(folder)], "json[q], txt", "key").files["train"]
    (meta / "dataset.yaml").write_text("__class__: MetadatasetV2\nsplits: {train: {path: ./a}}\n")
    with pytest.raises(DataError, match="is a blend"):
        tar_input([str(folder)], "txt", "key")
    (meta / "dataset.yaml").write_text("a: [")
    with pytest.raises(DataError, match=r"dataset\.yaml is damaged"):
        tar_input([str(folder)], "txt", "key")
    (meta / "dataset.yaml").unlink()
    (meta / "split.yaml").write_text("split_parts: [train]")
    with pytest.raises(DataError, match="is damaged"):
        tar_input([str(folder)], "txt", "key")
    (meta / "split.yaml").write_text("split_parts: {val: [shards/s-0.tar]}")
    with pytest.raises(DataError, match="names no tar of its part train"):
        tar_input([str(folder)], "txt", "key")
    (meta / "split.yaml").unlink()
    with pytest.raises(DataError, match="energon prepare"):
        tar_input([str(folder)], "txt", "key")
