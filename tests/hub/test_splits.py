"""Which files a set's config and split have; the oracle is `datasets` on the same folder."""

from pathlib import Path

import datasets
import pytest

from trainer.data.manifest import load_manifest
from trainer.data.remote.location import place
from trainer.errors import DataError
from trainer.hub.names import model_name, page_of, set_name
from trainer.hub.splits import files_of

CONFIGS = """---
license: apache-2.0
configs:
- config_name: chat
  default: true
  data_files:
  - {split: train, path: chat/train-*.jsonl}
  - {split: test, path: [chat/held.jsonl, chat/more/**]}
- config_name: tools
  data_files: tools/*.jsonl
- config_name: folder
  data_dir: plain
---
# A set
"""
LAYOUTS: dict[str, tuple[str, ...]] = {
    "shards": (
        "data/train-00000-of-00001.jsonl",
        "data/test-00000-of-00001.jsonl",
        "a/train.jsonl",
    ),
    "own splits": ("data/train_sft-00000-of-00001.jsonl", "data/test_sft-00000-of-00001.jsonl"),
    "folders": ("train/a.jsonl", "train/deep/b.jsonl", "val/c.jsonl", "eval-1/d.jsonl"),
    "file names": ("my_train.jsonl", "dev.jsonl", "x/test-2.jsonl", "training.notes.jsonl"),
    "no names": ("a.jsonl", "deep/b.jsonl", ".hidden/c.jsonl", "__pycache__/d.jsonl"),
    "words inside others": ("constraint.jsonl", "latest.jsonl", "evaluate.jsonl"),
}


def made(folder: Path, names: tuple[str, ...], card: str = "# A set\n") -> list[str]:
    for name in (*names, "README.md", "dataset_infos.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(card if name == "README.md" else '{"text": "a"}\n')
    (folder / "dataset_infos.json").write_text("{}")
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def theirs(folder: Path, config: str | None = None) -> dict[str, list[str]]:
    built = datasets.load_dataset_builder(str(folder), config).config.data_files
    return {
        str(split): sorted(Path(file).relative_to(folder).as_posix() for file in files)
        for split, files in built.items()
    }


def ours(folder: Path, names: list[str], query: str) -> list[str]:
    name = set_name(f"hf://org/set?{query}")
    return files_of(name, names, lambda file: (folder / file).read_bytes())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_found_as_datasets_finds_them(layout: str, tmp_path: Path) -> None:
    """Catches a split that is lost, mixed into another, or found by a word inside a word."""
    names = made(tmp_path, LAYOUTS[layout])
    expected = theirs(tmp_path)
    assert {split: ours(tmp_path, names, f"split={split}") for split in expected} == expected


@pytest.mark.parametrize("config", ["chat", "tools", "folder"])
def test_the_card_names_configs_and_their_files(config: str, tmp_path: Path) -> None:
    """Catches a card that is not asked, and a pattern that crosses folders."""
    files = ("chat/train-1.jsonl", "chat/train-2.jsonl", "chat/held.jsonl", "chat/more/x/y.jsonl")
    names = made(tmp_path, (*files, "tools/a.jsonl", "tools/b/c.jsonl", "plain/z.jsonl"), CONFIGS)
    expected = theirs(tmp_path, config)
    found = {split: ours(tmp_path, names, f"config={config}&split={split}") for split in expected}
    assert found == expected
    if config == "chat":
        assert ours(tmp_path, names, "") == expected["train"], "the default one"
        both = sorted(file for files in expected.values() for file in files)
        assert ours(tmp_path, names, "split=train%2Btest") == both


def test_a_pattern_names_files_itself(tmp_path: Path) -> None:
    """Catches a path inside the repository that is read as its revision or dropped."""
    names = made(tmp_path, ("a/one.jsonl", "a/two.jsonl", "b/three.jsonl"))
    for address in ("hf://org/set/a/*.jsonl", "hf://datasets/org/set@v1/a/*.jsonl"):
        found = files_of(set_name(address), names, lambda _: b"")
        assert found == ["a/one.jsonl", "a/two.jsonl"]
    assert set_name("hf://datasets/org/set@v1/a/*.jsonl").revision == "v1"
    assert set_name("hf://org/set?revision=v1").revision == "v1"


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("split=validation", "has no split validation, but test, train: add"),
        ("config=talk", "has no config talk, but chat, tools, folder"),
        ("name=chat", "name= is unknown; an address takes config, split, revision"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(query: str, problem: str, tmp_path: Path) -> None:
    """Catches another split taken in silence."""
    names = made(tmp_path, ("chat/train-1.jsonl", "chat/held.jsonl"), CONFIGS)
    with pytest.raises(DataError, match=problem):
        ours(tmp_path, names, query)


def test_several_configs_without_a_default_ask_for_one(tmp_path: Path) -> None:
    """Catches the first config taken for all."""
    names = made(tmp_path, ("tools/a.jsonl",), CONFIGS.replace("  default: true\n", ""))
    with pytest.raises(DataError, match=r"has the configs chat, tools, folder: add \?config=NAME"):
        ours(tmp_path, names, "")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    """Catches a stray JSON file that is trained on in place of the set's own CSV files."""
    names = made(tmp_path, ("train.csv", "more-train.csv", "extra.json"))
    with pytest.raises(DataError, match=r"more-train.csv is not one of parquet, jsonl"):
        ours(tmp_path, names, "")


@pytest.mark.parametrize("text", ["hf", "./org/name", "/org/name", "a/b/c", "org/", "a b/c"])
def test_paths_are_no_names_of_models(text: str) -> None:
    """Catches a mistyped path that is asked for on the network."""
    assert model_name(text) is None


def test_a_repository_without_files_of_data_says_so(tmp_path: Path) -> None:
    """Catches "no split train, but none", of a set that a script of its own makes."""
    names = made(tmp_path, ("script.py",))
    with pytest.raises(DataError, match=r"holds no file of parquet, jsonl, .*load_dataset"):
        ours(tmp_path, names, "")


def test_pages_lead_to_names() -> None:
    """Catches eight attempts at a page of the hub, and files of a server taken for its pages."""
    site = "https://huggingface.co"
    assert page_of(f"{site}/datasets/org/set/tree/main") == "hf://org/set"
    assert page_of(f"{site}/datasets/org/set/tree/v1") == "hf://org/set@v1"
    assert page_of(f"{site}/datasets/org/set/resolve/main/a.jsonl") is None
    assert page_of("https://example.com/org/name") is None
    with pytest.raises(DataError, match=r"https://huggingface\.co/org/a: .* write org/a$"):
        model_name(Path(f"{site}/org/a"))
    with pytest.raises(DataError, match=r"is a page of the hub; write hf://org/set$"):
        place(f"{site}/datasets/org/set")
    with pytest.raises(DataError, match=r"no corpus at org/set: .*\(a set .* is hf://org/set\)"):
        load_manifest("org/set")
