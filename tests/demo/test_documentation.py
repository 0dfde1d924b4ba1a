"""The embedded corpus: documentation as files, and a corpus built from them at the front door."""

import json
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from rich.console import Console

from trainer.corpus.inspect.contents import inspect_corpus
from trainer.data.manifest import Manifest
from trainer.data.shards import ShardReader
from trainer.demo import documentation
from trainer.errors import DataError
from trainer.recipe import CorpusSection, Recipe
from trainer.sources import ensure_corpus

SENTENCE = "It explains what the function does to a bird, and what becomes of the bird in the end."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with 30 different functions, one of which is defined twice."""
    names = [f"fly{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(30)]
    source = "".join(
        f'def {name}(height={n}):\n    """The {name} of {n * 7} birds. {SENTENCE}"""\n'
        for n, name in enumerate([*names, names[0]])
    )
    (tmp_path / "site/birds").mkdir(parents=True)
    (tmp_path / "site/birds/__init__.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return "birds"


def made(folder: Path, *packages: str, **keys: object) -> Manifest:
    recipe = Recipe.model_construct(
        corpus=CorpusSection.model_validate(
            {"packages": packages, "path": str(folder), "vocab": 300, "workers": 1, **keys}
        ),
        tokenizer=None,
    )
    found, manifest = ensure_corpus(recipe, progress=False)
    assert found == folder
    return manifest


def test_the_embedded_corpus_says_where_it_came_from(tmp_path: Path) -> None:
    """Would catch provenance without versions or drops; inspect must be able to print it."""
    manifest = made(tmp_path / "corpus", "topics")
    inputs = manifest.provenance["inputs"]
    assert inputs["packages"] == {"topics": sys.version.split()[0]}
    assert {"datatrove", "rensa", "tokenizers", "webdataset"} <= set(inputs["libraries"])
    assert manifest.provenance["settings"]["source"] == "embedded"
    curation = json.loads((tmp_path / "corpus" / "curation.json").read_bytes())
    (topics,) = curation["sources"].values()
    dropped = sum(control["dropped"] for control in curation["controls"])
    assert topics["read"] == topics["kept"] + dropped and dropped > 0
    documents = sum(split.documents for split in manifest.splits.values())
    assert documents == topics["kept"] == curation["funnel"][-1]["documents"]
    console = Console(record=True, width=120, quiet=True)
    console.print(inspect_corpus(tmp_path / "corpus"))


def test_documents_keep_their_names_headings_and_what_was_left_out(package, tmp_path) -> None:
    """Catches a heading that is judged or lost, a file in the place of the package, and a
    docstring that vanishes between its package and the audit.
    """
    loose = {"rules": None, "near_duplicates": None, "minimum_characters": 1, "validation": 0.2}
    manifest = made(tmp_path / "corpus", package, **loose)
    about = [
        reader.metadata(index)
        for split in manifest.splits.values()
        for shard in split.shards
        for reader in [ShardReader(tmp_path / "corpus", shard, manifest.token_dtype)]
        for index in range(shard.documents)
    ]
    assert len(about) == 30 and {one["source"] for one in about} == {"birds"}
    flya = next(one for one in about if one["id"] == "birds.flyaa")
    heading = "birds.flyaa(height=0)\n\n"
    assert flya["characters"] == len(f"{heading}The flyaa of 0 birds. {SENTENCE}")
    curation = json.loads((tmp_path / "corpus/curation.json").read_bytes())
    assert curation["sources"]["birds"]["read"] == curation["sources"]["birds"]["kept"] == 30
    rows = [
        row
        for path in (tmp_path / "corpus/audit").glob("*.parquet")
        for row in pyarrow.parquet.read_table(path).to_pylist()
    ]
    (row,) = rows
    assert (row["document"], row["source"]) == ("birds.flyaa", "birds")
    assert (row["rule"], row["reason"], row["action"]) == ("read", "repeated name", "dropped")
    assert row["bytes"] == len(f"The flyaa of 210 birds. {SENTENCE}")


def test_documentation_is_written_once_and_only_for_a_build(
    package, cache, tmp_path, monkeypatch
) -> None:
    """Catches packages read again at every start of a run, or for each corpus made of them."""
    keys = {"minimum_characters": 1, "rules": None, "near_duplicates": None}
    made(tmp_path / "one", package, **keys)
    monkeypatch.setattr(documentation, "read_docstrings", None)
    before = {path: path.stat().st_ino for path in cache.rglob("*.jsonl")}
    assert len(before) == 2
    made(tmp_path / "one", package, **keys)
    made(tmp_path / "two", package, **keys, seed=1)
    assert {path: path.stat().st_ino for path in cache.rglob("*.jsonl")} == before


def test_a_cache_that_cannot_be_written_is_one_line(package, cache, tmp_path) -> None:
    """Catches a stack trace for a full disk or a folder of somebody else."""
    cache.write_text("no folder")
    with pytest.raises(DataError, match=r"documentation.* point LYCEUM_CACHE elsewhere"):
        made(tmp_path / "corpus", package)
