"""The same build on a real SLURM cluster: the same bytes, and errors that come back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import absent_programs, slurm_cluster
from trainer.corpus.build.corpus import build_corpus
from trainer.errors import ClusterError, DataError, RecipeError
from trainer.recipe import CorpusSection

pytestmark = pytest.mark.skipif(
    bool(absent_programs()),
    reason=f"no SLURM here ({', '.join(absent_programs())}): apt-get install slurm-wlm munge",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as configuration:
        yield configuration


@pytest.fixture
def settings(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A corpus of several small files, so that there are several tasks of each kind."""
    monkeypatch.setenv("SLURM_CONF", str(cluster))
    for number in range(3):
        lines = [
            json.dumps({"text": f"{word} {number} text of the document " * 8 + f"{word} {extra}"})
            for word in ("first", "second", "third", "fourth")
            for extra in range(10)
        ]
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines))
    return {
        "source": "text",
        "files": [str(tmp_path / "*.jsonl")],
        "vocab": 300,
        "validation": 0.2,
        "minimum_characters": 10,
        "rules": None,
        "canaries": {"count": 2, "copies": [1, 4], "personal": 1},
        "slurm": {"partition": "main", "memory_gib": 1, "time": "00:05:00"},
    }


def build_on_cluster(settings: dict[str, object], out: Path) -> None:
    section = CorpusSection(**settings)  # type: ignore[arg-type]
    build_corpus(section, None, out, progress=False, on="slurm")


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "timings.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_build_on_a_cluster_is_the_build_on_one_machine(
    settings: dict[str, object], tmp_path: Path
) -> None:
    """Would catch stages that start too early, tasks lost, or an environment that only works
    here.
    """
    section = CorpusSection(**settings)  # type: ignore[arg-type]
    build_corpus(section, None, tmp_path / "local", progress=False)
    build_on_cluster(settings, tmp_path / "cluster")
    assert content(tmp_path / "cluster") == content(tmp_path / "local")
    assert not (tmp_path / "cluster.partial").exists()


def test_a_task_that_finds_bad_data_ends_the_build_with_its_own_words(
    settings: dict[str, object], tmp_path: Path
) -> None:
    """Would catch jobs that wait for ever behind a failed one, or an error that only a log has."""
    (tmp_path / "0.jsonl").write_text("no JSON\n" * 50)
    with pytest.raises(DataError, match=r"50 of 130 records .* are malformed.*0\.jsonl line 1"):
        build_on_cluster(settings, tmp_path / "cluster")
    assert not (tmp_path / "cluster").exists()


def test_what_a_cluster_refuses_is_one_line(settings: dict[str, object], tmp_path: Path) -> None:
    """Would catch a stack trace for a partition that is not there, or for none named."""
    nowhere = {**settings, "slurm": {"partition": "nowhere"}}
    with pytest.raises(ClusterError, match=r"sbatch refused the build.*corpus\.slurm"):
        build_on_cluster(nowhere, tmp_path / "cluster")
    unnamed = {**settings, "slurm": None}
    with pytest.raises(RecipeError, match=r"corpus\.slurm\.partition=NAME"):
        build_on_cluster(unnamed, tmp_path / "cluster")
