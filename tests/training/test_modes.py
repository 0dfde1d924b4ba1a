"""The umask decides who may read what is written; --private leaves a corpus to its user."""

import json
import os
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
