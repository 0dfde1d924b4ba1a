"""The umask decides who may read what is written; --private leaves it to its user."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer.cli import main
from trainer.hugging_face import exporting
from trainer.recipe import Recipe
from trainer.report.command import report_command
from trainer.sources import build_from_recipe


def modes(folder: Path) -> dict[str, set[str]]:
    """The modes of files and folders below, each with an example's names."""
    found: dict[str, set[str]] = {"files": set(), "folders": set()}
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            kind = "folders" if path.is_dir() else "files"
            found[kind].add(f"{path.stat().st_mode & 0o777:o}")
    return found


def make_all(recipe: Recipe, mask: int, out: Path) -> tuple[str, str] | None:
    """A corpus, a run with its report, and an export, under a umask."""
    os.umask(mask)
    out.mkdir()
    build_from_recipe(recipe, progress=False)
    failed = train_here(recipe)
    report_command([Path(recipe.run)], None)
    main(["export", recipe.run, str(out / "exported")])
    return failed


@pytest.mark.parametrize(
    ("mask", "files", "folders"), [(0o002, "664", "775"), (0o077, "600", "700")]
)
def test_the_umask_decides_on_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int, files: str, folders: str
) -> None:
    """Would catch a checkpoint that a group may not read, or a log that everybody may."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "out/cache"))
    write_text(tmp_path)
    out = tmp_path / "out"
    own = {"corpus__path": str(out / "corpus"), "model__layers": 1, "steps": 2}
    recipe = recipe_of(out / "run", tmp_path, checkpoint__every=1, **own)
    assert on_ranks(1, make_all, recipe, mask, out) == [None]
    assert (out / "exported/config.json").is_file() and exporting.__name__
    assert modes(out) == {"files": {files}, "folders": {folders}}


def test_a_private_corpus_is_its_users(tmp_path: Path) -> None:
    """Would catch `--private` that leaves a shard, the audit or the list of tasks to others."""
    write_text(tmp_path)
    keys = json.loads(recipe_of(tmp_path / "run", tmp_path).model_dump_json())
    keys["corpus"]["path"] = str(tmp_path / "private/corpus")
    keys["corpus"]["workers"] = 2
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(keys))
    before = os.umask(0o022)
    try:
        assert main(["corpus", "build", str(recipe), "--private"]) == 0
        assert modes(tmp_path / "private") == {"files": {"600"}, "folders": {"700"}}
        assert main(["corpus", "build", str(recipe), f"corpus.path={tmp_path}/open/corpus"]) == 0
        assert modes(tmp_path / "open") == {"files": {"644"}, "folders": {"755"}}
    finally:
        os.umask(before)


def test_what_a_private_run_makes_is_its_users(tmp_path: Path) -> None:
    """Would catch a set, a log or a checkpoint of private questions that others may read."""
    write_text(tmp_path)
    asked = [{"prompt": f"Which is number {n}?", "completion": f"It is {n}."} for n in range(40)]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)))
    base = recipe_of(tmp_path / "base", tmp_path, steps=1, model__layers=1)
    assert on_ranks(1, train_here, base) == [None]
    tuned = {
        "stage": "sft",
        "device": "cpu",
        "run": str(tmp_path / "private/run"),
        "init_from": str(tmp_path / "base"),
        "steps": 2,
        "sequence_length": 32,
        "batch": {"sequences": 4, "micro": 2},
        "optimizer": {"lr": 1e-3},
        "data": {"mixture": [{"corpus": str(tmp_path / "asked.jsonl")}], "workers": 0},
        "conversations": {"validation": 0.1},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(tuned))
    command = [sys.executable, "-m", "trainer", "train", str(tmp_path / "recipe.yaml"), "--private"]
    environment = {**os.environ, "LYCEUM_CACHE": str(tmp_path / "private/cache")}
    ended = subprocess.run(command, env=environment, umask=0o022, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert modes(tmp_path / "private") == {"files": {"600"}, "folders": {"700"}}
    assert list((tmp_path / "private").rglob("manifest.json")), "the set is there"
