"""Planted documents through the real chain with its default rules."""

import json
from pathlib import Path

import pytest

from trainer.bench.curation import Trial, curation_command, judge, run_trial
from trainer.corpus.inspect.find import find_passage
from trainer.corpus.planted import PASSAGE, PERSONAL, Planted, plant
from trainer.data.manifest import load_manifest
from trainer.data.shards import ShardReader
from trainer.data.tokenizer import load_tokenizer
from trainer.demo.clean_docstrings import clean_documents
from trainer.errors import RecipeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def trial(folder: Path) -> Trial:
    return run_trial(folder, 120)


def test_nothing_bad_that_was_planted_is_left_as_it_was(trial: Trial) -> None:
    """Would catch a rule that is not wired in, or one that an earlier step hides the document
    from.
    """
    missed = [one for one in trial.otherwise if one["found"] == "passed"]
    assert missed == []
    assert {score.rule for score in trial.scores} == {
        *("decontaminate", "duplicates", "language", "personal", "quality", "toxicity")
    }
    for score in trial.scores:
        assert score.planted >= 10, score
        # A document may fall to an earlier rule than the one it was made for: it is listed, and
        # there are few.
        assert score.recall is not None and score.recall >= 0.9, score


def test_what_only_looks_bad_is_left_alone(trial: Trial) -> None:
    """The other side: a rule that acts on everything catches all that was planted."""
    touched = [one for one in trial.otherwise if one["expected"] == "passes"]
    assert len(touched) <= trial.documents // 50, touched
    for score in trial.scores:
        # A sentence more or less can carry a clean document over a threshold of prose; of the
        # other controls, none may touch a single one.
        assert score.rule == "quality" or score.precision == 1.0, score


def test_no_planted_datum_passage_or_copy_is_in_the_shards(folder: Path, trial: Trial) -> None:
    """Would catch an audit that tells of a rule whose effect never reached the corpus."""
    corpus = folder / "corpus"
    manifest, tokenizer = load_manifest(corpus), load_tokenizer(corpus / "tokenizer")
    texts = []
    for split in manifest.splits.values():
        for shard in split.shards:
            reader = ShardReader(corpus, shard, manifest.token_dtype)
            for index, length in enumerate(reader.lengths.tolist()):
                texts.append(tokenizer.decode(reader.tokens(index, 1, length - 1).tolist()))
    together = "\n".join(texts)
    assert "[email]" in together and "[card]" in together
    for datum in ("mail-service.com", "(415) 555", "4539 1488 0343 6467"):
        assert datum in " ".join(PERSONAL.values()) and datum not in together
    assert PASSAGE not in together and "Fischer" not in together
    assert len(set(texts)) == len(texts) > 60
    assert find_passage(corpus, PASSAGE).whole == ()


def test_the_same_documents_are_planted_each_time() -> None:
    """Would catch figures that change from run to run."""
    clean = [" ".join(f"word{n}x{m}" for m in range(120)) for n in range(40)]
    assert plant(clean, 3) == plant(clean, 3) != plant(clean, 4)


def test_a_miss_and_a_false_alarm_are_counted(tmp_path: Path) -> None:
    """Would catch a table that shows 1.000 whatever happened."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [("a", "personal", "changed"), ("c", "personal", "changed"), ("d", "c4", "changed")]
    names = ("document", "rule", "action")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    (tmp_path / "audit").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "audit" / "part.parquet")
    (tmp_path / "timings.json").write_text("{}")
    planted = [
        Planted("a", "", "personal", "email"),
        Planted("b", "", "personal", "email"),
        Planted("c", "", None, "clean"),
        Planted("d", "", None, "clean"),
    ]
    trial = judge(planted, tmp_path)
    (score,) = trial.scores
    assert (score.precision, score.recall) == (0.5, 0.5)
    assert [(one["document"], one["found"]) for one in trial.otherwise] == [
        ("b", "passed"),
        ("c", "personal"),
    ]


def test_the_command_prints_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a command that fails at its end, or asks for documents that there are not."""
    curation_command(60, tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {score["rule"] for score in figures["scores"]} >= {"duplicates", "personal"}
    assert "precision" in capsys.readouterr().out


def test_too_few_clean_documents_are_an_error() -> None:
    """Would catch figures over fewer documents than were asked for."""
    with pytest.raises(RecipeError, match=r"of 1000 clean documents .* topics: .*--documents"):
        clean_documents(1000, packages=("topics",))
