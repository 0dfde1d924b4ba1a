"""A build says, while it runs, where one rule takes most of a source."""

import json
import logging
from pathlib import Path

import pytest
from rich.text import Text

from trainer.corpus.build import execute, record
from trainer.corpus.build.corpus import build_corpus
from trainer.corpus.build.losses import LossWatch, SourceLoss, key_to_change
from trainer.corpus.build.record import GLIMPSES, TaskRecord
from trainer.corpus.inspect.card import CARD_NAME
from trainer.corpus.inspect.curation import load_curation
from trainer.corpus.inspect.tables import curation_tables
from trainer.recipe import CorpusSection
from trainer.recipe.curation import CurationRules

GOOD = "The keeper of house number {n} rose with the sun, and went to see {n} hens and the boat."
BAD = "no line here\nends in any mark\nand there are {n}\nof them in this list\nof short lines"
LINE = (
    "the rule fineweb drops most of {source}: {count} of 30 documents so far ({share}, {share}"
    " of the text), {count} of them by 'too few punctuated lines';"
    " corpus.rules.quality.fineweb.punctuated_lines changes that"
)


def section(folder: Path, *names: str, **changes: object) -> CorpusSection:
    rules = {key: None for key in CurationRules.model_fields}
    quality = {"gopher_repetition": None, "gopher_quality": None, "c4": None}
    settings: dict[str, object] = {
        "source": "text",
        "files": [str(folder / name) for name in names],
        "vocab": 300,
        "workers": 1,
        "minimum_characters": 0,
        "near_duplicates": None,
        "rules": {**rules, "quality": quality},
    }
    return CorpusSection.model_validate({**settings, **changes})


def write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Lists, prose, a few lists, and one source in two files, of which half is lists."""
    write(tmp_path / "lists.jsonl", [BAD.format(n=n) for n in range(30)])
    write(tmp_path / "prose.jsonl", [GOOD.format(n=n) for n in range(30)])
    write(tmp_path / "few.jsonl", [BAD.format(n=100 + n) for n in range(19)])
    write(tmp_path / "half-1.jsonl", [BAD.format(n=200 + n) for n in range(15)])
    write(tmp_path / "half-2.jsonl", [GOOD.format(n=200 + n) for n in range(15)])
    return tmp_path


def said(records: list[logging.LogRecord]) -> list[str]:
    return [one.getMessage() for one in records if one.levelno == logging.WARNING]


def test_a_build_says_which_rule_takes_most_of_a_source(
    sources: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a source that is lost in silence, said twice, or only when all is done; and a
    warning for a handful of documents, for half of a source, or for a sound one.
    """
    stages = []
    run = execute.LocalExecutor.run

    def recorded(executor: execute.LocalExecutor) -> None:
        stages.append((Path(executor.logging_dir.path).name, len(said(caplog.records))))
        run(executor)

    monkeypatch.setattr(execute.LocalExecutor, "run", recorded)
    names = ("lists.jsonl", "prose.jsonl", "few.jsonl", "half-*.jsonl")
    build_corpus(section(sources, *names), None, sources / "corpus", progress=False)
    line = LINE.format(source=sources / "lists.jsonl", count=30, share="100%")
    assert said(caplog.records) == [line]
    assert dict(stages)["judge"] == 1, "it is said before the next stage begins"
    curation = load_curation(sources / "corpus")
    assert curation is not None
    assert [loss.line() for loss in curation.losses] == [line.replace(" so far", "")]
    assert curation.sources[str(sources / "half-*.jsonl")] == {"files": 2, "read": 30, "kept": 15}
    shown = curation_tables(curation, 0, 0)
    assert [str(part) for part in shown if isinstance(part, Text)] == [line.replace(" so far", "")]
    card = (sources / "corpus" / CARD_NAME).read_text()
    assert "corpus.rules.quality.fineweb.punctuated\\_lines changes that." in card


def test_a_large_file_is_said_before_it_is_read_to_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch hours of one file's reading, which is one task, before a word on its loss, and
    glimpses counted twice or left in the corpus.
    """
    monkeypatch.setattr(record, "GLIMPSE_DOCUMENTS", 25)
    write(tmp_path / "lists.jsonl", [BAD.format(n=n) for n in range(300)])
    write(tmp_path / "prose.jsonl", [GOOD.format(n=n) for n in range(30)])
    given = section(tmp_path, "lists.jsonl", "prose.jsonl")
    build_corpus(given, None, tmp_path / "corpus", progress=False)
    line = LINE.replace("of 30", "of 25").format(
        source=tmp_path / "lists.jsonl", count=25, share="100%"
    )
    assert said(caplog.records) == [line]
    assert not (tmp_path / "corpus" / GLIMPSES).exists()
    curation = load_curation(tmp_path / "corpus")
    assert curation is not None
    assert [loss.documents for loss in curation.losses] == [300]


def test_glimpses_are_seen_while_a_task_runs_and_in_their_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a watch that waits for the end, and lines that hang on when it looks."""
    monkeypatch.setattr(record, "GLIMPSE_DOCUMENTS", 20)
    late, lines = LossWatch(tmp_path, section(tmp_path, "none")), []
    watch = LossWatch(tmp_path, section(tmp_path, "none"))
    task = TaskRecord(str(tmp_path), "read")
    for number in range(210):
        task.glimpse("read")
        task.passed("read", 100)
        reason = "too few punctuated lines" if number % 20 < 15 else None
        task.judged("fineweb", f"source {number // 100}", 100, reason)
        watch.look("read")
        lines.append(len(said(caplog.records)))
    assert [lines[at] for at in (19, 20, 199, 200)] == [0, 1, 1, 2]
    task.finish()
    watch.look("read")
    seen = said(caplog.records)
    caplog.clear()
    late.look("read")
    assert said(caplog.records) == seen
    assert "15 of 20 documents so far" in seen[0] and "75 of 100" in seen[1]


def test_duplicates_that_take_most_of_a_source_are_said(
    sources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch the removal of duplicates, which is no rule of a text, left out."""
    write(sources / "twice.jsonl", [GOOD.format(n=n % 5) for n in range(30)])
    build_corpus(section(sources, "twice.jsonl"), None, sources / "corpus", progress=False)
    (line,) = said(caplog.records)
    assert line.startswith(f"the rule duplicates drops most of {sources / 'twice.jsonl'}: 25 of 30")
    assert line.endswith("by 'duplicate'; corpus.exact_duplicates changes that")


def finish_task(folder: Path, rank: int, dropped: int) -> None:
    record = TaskRecord(str(folder), "read")
    record.begin(rank)
    for number in range(30):
        reason = "too few punctuated lines" if number < dropped else None
        record.judged("fineweb", f"source {rank % 2}", 100, reason)
    record.finish()


def test_what_is_said_does_not_depend_on_which_task_ends_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch lines that differ from build to build of the same input."""
    watch = LossWatch(tmp_path, section(tmp_path, "none"))
    for rank, dropped in ((2, 30), (1, 20), (3, 0)):
        finish_task(tmp_path, rank, dropped)
        watch.look("read")
        assert said(caplog.records) == [], "the first task has not ended"
    finish_task(tmp_path, 0, 30)
    watch.look("read")
    watch.look("read")
    assert said(caplog.records) == [
        LINE.format(source="source 0", count=30, share="100%"),
        LINE.format(source="source 1", count=20, share="67%"),
    ]


@pytest.mark.parametrize(
    ("documents", "dropped", "size", "dropped_size", "most"),
    [
        (20, 11, 2000, 1100, True),
        (20, 10, 2000, 1000, False),
        (19, 19, 1900, 1900, False),
        (6, 6, 4 << 20, 4 << 20, True),
        (100, 10, 4 << 20, 3 << 20, True),
        (100, 10, 4 << 20, 1 << 20, False),
    ],
)
def test_most_is_of_documents_or_of_text_and_never_of_a_handful(
    documents: int, dropped: int, size: int, dropped_size: int, most: bool
) -> None:
    """Would catch six novels lost as a handful, and a warning for chance."""
    loss = SourceLoss(
        "c4", "books", documents, size, dropped, dropped_size, "no text", dropped, "key"
    )
    assert loss.is_most is most


@pytest.mark.parametrize(
    ("rule", "reason", "key"),
    [
        ("minimum length", "too short", "corpus.minimum_characters"),
        ("duplicates", "near duplicate", "corpus.near_duplicates"),
        ("normalize", "no text", "corpus.rules.normalize"),
        ("language", "language", "corpus.rules.language.keep"),
        ("gopher quality", "hashes", "corpus.rules.quality.gopher_quality.symbols_a_word"),
        ("gopher repetition", "top 2-gram", "corpus.rules.quality.gopher_repetition.top_2_gram"),
        ("gopher quality", "unbroken symbols", "corpus.rules.quality.gopher_quality"),
        ("c4", "curly brackets", "corpus.rules.quality.c4.curly_bracket"),
        ("c4", "no text", "corpus.rules.quality.c4"),
        ("personal", "email", "corpus.rules.personal"),
        ("toxicity", "slurs", "corpus.rules.toxicity.slurs"),
    ],
)
def test_the_key_that_changes_it_is_one_of_the_recipe(rule: str, reason: str, key: str) -> None:
    """Would catch a line that sends the reader to a key that is not there."""
    found: object = CorpusSection()
    assert key_to_change(CorpusSection(), rule, reason) == key
    for part in key.split(".")[1:]:
        found = getattr(found, part)
