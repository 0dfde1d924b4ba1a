"""The data card, the plots and what is read back of a curation, whole or in part."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpora import random_documents, write_corpus
from trainer.corpus.build.record import TaskRecord
from trainer.corpus.inspect.card import CARD_NAME, data_card, write_card, write_plots
from trainer.corpus.inspect.curation import Curation, Lengths, audit_size, load_curation, lost
from trainer.corpus.rules.rule import Finding
from trainer.errors import DataError

CURATION: dict[str, Any] = {
    "funnel": [
        {"step": "read", "documents": 1000, "bytes": 2_000_000, "tokens": 600_000, "exact": False},
        {"step": "language", "documents": 900, "bytes": 1_900_000, "tokens": None, "exact": False},
        {"step": "counterfactual", "documents": 945, "bytes": 1_950_000, "tokens": 585_000},
        {"step": "tokenized", "documents": 945, "bytes": 1_950_000, "tokens": 575_123}
        | {"exact": True},
    ],
    "controls": [
        {"rule": "language", "reason": "language", "threshold": "en", "dropped": 60, "changed": 0},
        {"rule": "language", "reason": "score", "threshold": "0.5", "dropped": 40, "changed": 0},
        {"rule": "personal", "reason": "email | <b>[x](y)", "threshold": "redact", "dropped": 0}
        | {"changed": 7},
        {"rule": "c4", "reason": "lorem ipsum", "threshold": "true", "dropped": 0, "changed": 0},
    ],
    "languages": {"fr": 20, "en": 900, "de": 80},
    "lengths": {
        "edges": [1, 2, 4, 8, 16, 32, 64],
        "read": [0, 0, 0, 10, 500, 490, 0],
        "kept": [0, 0, 0, 0, 450, 450, 0],
    },
    "balance": [
        {"axis": "gender", "group": "women", "mentions": 1200, "share": 0.4},
        {"axis": "gender", "group": "men", "mentions": 1800, "share": 0.6},
    ],
    "malformed": {
        "records": 1003,
        "malformed": 3,
        "reasons": {"not JSON": 1, "no text": 1, "cut short": 1},
        "passed_over": {"not a web page": 12},
        "first": [
            {"file": "a.jsonl", "line": 7, "reason": "not JSON"},
            {"file": "b.parquet", "row": 8, "reason": "no text"},
            {"file": "c.warc", "record": 9, "reason": "cut short"},
        ],
    },
    "sources": {"text": {"files": 3, "read": 1000, "kept": 945}},
    "rules": {"language": {"keep": ["en"]}, "personal": {"email": "redact"}, "quality": None},
}


def curated(folder: Path, content: dict[str, Any] | None = None) -> Path:
    """A small corpus with this curation beside it, or without any."""
    write_corpus(folder, [random_documents([20, 30])], [random_documents([10])])
    if content is not None:
        (folder / "curation.json").write_text(json.dumps(content))
    return folder


def lines(card: str) -> list[str]:
    return card.splitlines()


def test_the_card_has_every_control_with_its_threshold_and_what_it_removed(tmp_path: Path) -> None:
    """Would catch a control left out because it removed nothing, or numbers in another's row."""
    card = lines(data_card(curated(tmp_path / "corpus", CURATION)))
    assert "| language | language | en | 60 | 0 |" in card
    assert "| language | score | 0.5 | 40 | 0 |" in card
    assert "| c4 | lorem ipsum | true | 0 | 0 |" in card
    assert "| gender | women | 1,200 | 40.0% |" in card
    assert "| text | 3 | 1,000 | 945 |" in card
    assert [line for line in card if line.endswith(("JSON", "no text", "short"))] == [
        "- a.jsonl line 7: not JSON",
        "- b.parquet row 8: no text",
        "- c.warc record 9: cut short",
    ]
    assert "Passed over, as they hold no text: 12 not a web page." in card
    reasons = "1 not JSON, 1 no text, 1 cut short"
    assert f"3 of 1,003 records were malformed and set aside ({reasons}); the first:" in card
    assert "| train | 2 | 50 | 1 |" in card


def test_the_funnel_says_what_is_counted_and_what_is_estimated(tmp_path: Path) -> None:
    """Would catch an estimate that looks like a count, or a share of the wrong step."""
    card = lines(data_card(curated(tmp_path / "corpus", CURATION)))
    assert "| read | 1,000 | 2,000,000 | ~600,000 | - |" in card
    assert "| language | 900 | 1,900,000 | - | -10.0% |" in card
    assert "| counterfactual | 945 | 1,950,000 | ~585,000 | +5.0% |" in card
    assert "| tokenized | 945 | 1,950,000 | 575,123 | - |" in card


def test_text_of_others_cannot_break_the_card(tmp_path: Path) -> None:
    """Would catch a reason or a name that ends its cell, or is shown as a link or as HTML."""
    card = data_card(curated(tmp_path / "corpus", CURATION))
    assert "| personal | email \\| &lt;b>\\[x\\](y) | redact | 0 | 7 |" in lines(card)


def test_the_limits_name_what_was_not_done(tmp_path: Path) -> None:
    """Would catch a card that is silent about a control that was left out."""
    card = data_card(curated(tmp_path / "corpus", CURATION))
    missing = next(line for line in lines(card) if line.startswith("- Not done:"))
    assert "no heuristic of quality" in missing and "evaluation sets" in missing
    assert "languages were not" not in missing
    assert "names, postal addresses" in card and "errs on short" in card
    empty = CURATION | {"rules": {"decontaminate": {"sets": [], "words": 13}}}
    assert "evaluation sets were not" in data_card(curated(tmp_path / "empty", empty))
    named = CURATION | {"rules": {"decontaminate": {"sets": [{"name": "quiz"}]}}}
    assert "evaluation sets were not" not in data_card(curated(tmp_path / "named", named))


def test_the_card_shows_pictures_only_where_they_are(tmp_path: Path) -> None:
    """Would catch links to plots that were never drawn, or that lie in another folder."""
    folder = curated(tmp_path / "corpus", CURATION)
    assert "](plots/" not in write_card(folder).read_text()
    write_plots(folder, folder / "plots")
    assert write_card(folder) == folder / CARD_NAME
    assert "![funnel](plots/funnel.png)" in (folder / CARD_NAME).read_text()
    elsewhere = write_card(folder, tmp_path / "card.md")
    assert "](plots/" not in elsewhere.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.md", "corpus"]


def test_the_trail_is_counted(tmp_path: Path) -> None:
    """Would catch an audit that the card does not mention, or counts wrong."""
    folder = curated(tmp_path / "corpus", CURATION)
    assert audit_size(folder) == (0, 0)
    for stage, rows in (("read", 5), ("clean", 2)):
        record = TaskRecord(str(folder), stage)
        for number in range(rows):
            record.found(f"d{number}", "s", "rule", "dropped", Finding("reason", 1, 2), "text")
        record.finish()
    assert audit_size(folder) == (7, 2)
    assert "`audit/` has 7 rows in 2 Parquet files" in data_card(folder)
    (folder / "audit/part-read-00000.parquet").write_bytes(b"no Parquet")
    with pytest.raises(DataError, match=r"part-read-00000\.parquet cannot be read"):
        audit_size(folder)


@pytest.mark.parametrize("left_out", [*CURATION, "all"])
def test_any_part_may_be_absent(tmp_path: Path, left_out: str) -> None:
    """Would catch a finished build that fails at its card for a part that it did not need."""
    kept = {} if left_out == "all" else {k: v for k, v in CURATION.items() if k != left_out}
    folder = curated(tmp_path / "corpus", kept)
    assert data_card(folder).startswith("# Data card")
    drawn = [path.stem for path in write_plots(folder, tmp_path / "plots")]
    expected = [name for name in ("funnel", "lengths", "languages") if name in kept]
    assert drawn == expected


def test_a_corpus_without_curation_has_a_card_and_no_plots(tmp_path: Path) -> None:
    """Would catch old corpora that can no longer be described."""
    folder = curated(tmp_path / "corpus")
    card = write_card(folder).read_text()
    assert "## Licence" in card and "## Controls" not in card
    assert "personal data was not looked for" in card
    assert write_plots(folder, tmp_path / "plots") == []
    assert not (tmp_path / "plots").exists()


def test_plots_are_pictures_and_the_same_each_time(tmp_path: Path) -> None:
    """Would catch empty files, or pictures that make the same corpus differ."""
    folder = curated(tmp_path / "corpus", CURATION)
    first = {path.name: path.read_bytes() for path in write_plots(folder, tmp_path / "one")}
    again = {path.name: path.read_bytes() for path in write_plots(folder, tmp_path / "two")}
    assert list(first) == ["funnel.png", "lengths.png", "languages.png"]
    assert all(picture.startswith(b"\x89PNG") for picture in first.values())
    assert first == again
    changed = curated(tmp_path / "changed", CURATION | {"languages": {"en": 10}})
    paths = write_plots(changed, tmp_path / "three")
    assert paths[2].read_bytes() != first["languages.png"], "the picture shows the numbers"


def test_plots_survive_strange_numbers_and_names(tmp_path: Path) -> None:
    """Would catch a logarithm of zero, or a name read as a formula."""
    strange = {"languages": {"en$x^$": 0, "de": 5}, "funnel": [CURATION["funnel"][0]]}
    assert len(write_plots(curated(tmp_path / "corpus", strange), tmp_path / "plots")) == 2


def test_lengths_are_labelled_by_their_characters() -> None:
    """Would catch bins off by one: bin i ends where edge i begins."""
    lengths = Lengths(**{name: tuple(row) for name, row in CURATION["lengths"].items()})
    assert lengths.filled() == [("4-7", 10, 0), ("8-15", 500, 450), ("16-31", 490, 450)]


def test_the_first_bin_holds_empty_documents() -> None:
    """Would catch a label below zero."""
    filled = Lengths((1, 2, 4), (3, 1, 0), (0, 1, 0)).filled()
    assert filled == [("0", 3, 0), ("1", 1, 1)]
    assert Lengths((1, 2), (0, 0), (0, 0)).filled() == []


def test_controls_and_languages_are_ranked(tmp_path: Path) -> None:
    """Would catch the top reasons in the order of the alphabet, or those cut off lost."""
    curation = load_curation(curated(tmp_path / "corpus", CURATION))
    assert curation is not None
    top = [(control.reason, control.dropped) for control in curation.top_controls(2)]
    assert top == [("language", 60), ("score", 40)]
    assert [control.changed for control in curation.top_controls(9)] == [0, 0, 7]
    assert curation.top_languages(1) == [("en", 900), ("others", 100)]
    assert curation.top_languages(3)[-1] == ("fr", 20)
    assert lost(()) == [] and Curation().top_controls(3) == []


@pytest.mark.parametrize("text", ["{", '{"funnel": [{"step": "read"}]}', "[1]", '{"balance": 3}'])
def test_a_damaged_curation_is_one_line(tmp_path: Path, text: str) -> None:
    """Would catch a stack trace for a file cut short or written by something else."""
    folder = curated(tmp_path / "corpus", CURATION)
    (folder / "curation.json").write_text(text)
    with pytest.raises(DataError, match=r"curation\.json"):
        load_curation(folder)


def test_a_card_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Would catch a stack trace for a mistyped path."""
    folder = curated(tmp_path / "corpus", CURATION)
    with pytest.raises(DataError, match="cannot write"):
        write_card(folder, tmp_path / "none/card.md")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write plots"):
        write_plots(folder, tmp_path / "file")


def test_every_threshold_is_told_though_it_removed_nothing() -> None:
    """Would catch a card that is silent about the controls that no document met."""
    from trainer.corpus.inspect.card import _thresholds

    rules = {"quality": {"fineweb": {"short_lines": 0.67}, "c4": None}, "language": None}
    told = "\n".join(_thresholds(rules))
    assert "| quality | fineweb.short\\_lines | 0.67 |" in told
    assert "| quality | c4 | off |" in told and "| language |  | off |" in told
    assert _thresholds({}) == []
