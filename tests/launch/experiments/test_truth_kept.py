"""The records beside the figures of the experiment on truth are those that the figures are of."""

import json
import lzma
from pathlib import Path

import pytest

from launch.experiments.over_seeds import value_of_seed
from launch.experiments.truth import kept
from launch.experiments.truth.chain import chain_of
from launch.experiments.truth.goals import GOALS
from launch.experiments.truth.kept import keep, kept_records, making
from launch.experiments.truth.measuring import SUITES, records_of
from trainer.errors import DataError
from trainer.evaluate.suites.suite import SuiteContext

HERE = Path(kept.__file__).parent
WHOLE = making("SmolLM2-135M-Instruct (Q4_1), LoRA", [], None)


def test_committed_figures_follow_from_committed_records() -> None:
    """Would catch figures of another run than the records beside them, and an archive forgotten."""
    archives = sorted((HERE / "records").iterdir())
    seeds = [int(one.name[5:].partition(".")[0]) for one in archives if "seed-" in one.name]
    figures = json.loads((HERE / "figures.json").read_text())["models"]
    context = SuiteContext(respondent=None)  # type: ignore[arg-type]  # read by items alone
    with kept_records(archives, WHOLE) as folder:
        by_label: dict[str, list[str]] = {"base": ["base"]}
        for seed in sorted(seeds):
            for one in chain_of(folder, seed):
                by_label.setdefault(one.label, []).append(one.records)
        assert figures.keys() == by_label.keys()
        for label, names in by_label.items():
            for goal in GOALS:
                entry = figures[label].get(f"{goal.suite}/{goal.figure}")
                if entry is None:
                    continue  # a blend that is drawn only
                assert entry["value"]["items"] >= 500, (label, goal.figure)
                kind = SUITES[goal.suite][0].figures(context)[goal.figure]
                of_seeds = [records_of(folder / name, goal.suite) for name in names]
                found = [value_of_seed(kind, {one["id"]: one for one in of}) for of in of_seeds]
                assert entry["by_seed"] == found, (label, goal.figure)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of a record."""
    (tmp_path / "records/base").mkdir(parents=True)
    (tmp_path / "records/base/held-out.jsonl").write_text('{"id": "a"}\n')
    keep(tmp_path / "records", ["base"], tmp_path / "base.tar.xz", WHOLE)
    return tmp_path / "base.tar.xz"


def test_what_is_kept_is_the_same_bytes_and_comes_back(archive: Path, tmp_path: Path) -> None:
    """Would catch a time, an owner or old answers: each run would change what is committed."""
    before = archive.read_bytes()
    (tmp_path / "records/base/held-out.jsonl").touch()
    (tmp_path / "records/base/held-out.jsonl.replaced").write_text('{"id": "old"}\n')
    keep(tmp_path / "records", ["base"], archive, WHOLE)
    assert archive.read_bytes() == before
    with kept_records([archive], WHOLE) as folder:
        assert records_of(folder / "base", "held-out") == [{"id": "a"}]
    assert not folder.exists()


def test_what_was_made_otherwise_or_is_damaged_is_not_counted(
    archive: Path, tmp_path: Path
) -> None:
    """Would catch a few items counted as the whole experiment, and figures of other recipes."""
    for name, otherwise in {"limit": 6, "keys": ["steps=2"], "recipes": {}, "suites": {}}.items():
        asked = {**WHOLE, name: otherwise}
        other = pytest.raises(DataError, match=f"made by other {name} than")
        with other, kept_records([archive], asked):
            pass
    for content in (b"", b"nothing", lzma.compress(b"nothing")):
        (tmp_path / "other").write_bytes(content)
        with (
            pytest.raises(DataError, match="no archive"),
            kept_records([tmp_path / "other"], WHOLE),
        ):
            pass
    with (
        pytest.raises(DataError, match="gone: is no archive of records: No such file"),
        kept_records([tmp_path / "gone"], WHOLE),
    ):
        pass
