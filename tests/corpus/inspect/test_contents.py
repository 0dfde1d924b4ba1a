"""What `corpus inspect` prints of a corpus, with and without its curation."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.corpus.inspect.test_card import CURATION
from tests.data.corpora import write_corpus
from trainer.cli import main
from trainer.corpus.inspect.contents import inspect_corpus
from trainer.data.tokenizer import train_tokenizer

TEXT = "A text with [bold]brackets[/bold] in it, and a few words more."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of one text, five times."""
    tokenizer = train_tokenizer([TEXT] * 5, 300)
    document = [tokenizer.end_of_text, *tokenizer.encode(TEXT), tokenizer.end_of_text]
    made = write_corpus(
        tmp_path / "corpus", [[document] * 4], [[document]], tokenizer=tokenizer.fingerprint
    )
    tokenizer.save(made / "tokenizer")
    return made


def printed(folder: Path, sequence_length: int = 4096) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(inspect_corpus(folder, sequence_length=sequence_length))
    return console.export_text()


def row(text: str, first: str) -> list[str]:
    """The cells of the first table row that begins with this."""
    rows = [line.strip("│ ").split("│") for line in text.splitlines() if line.startswith("│")]
    return next(
        cells for cells in ([cell.strip() for cell in line] for line in rows) if cells[0] == first
    )


def test_a_corpus_without_curation_is_shown_as_ever(folder: Path) -> None:
    """Would catch old corpora refused, or an empty funnel shown of them."""
    text = printed(folder)
    assert row(text, "train")[:3] == ["train", "1", "4"]
    assert "[bold]brackets[/bold]" in text
    assert "funnel" not in text and "audit" not in text


def test_the_curation_is_shown_in_numbers(folder: Path) -> None:
    """Would catch a column swapped, an estimate without its mark, or brackets taken for markup."""
    timings = {"language": {"seconds": 0.5, "documents": 1000, "bytes": 2_000_000}}
    (folder / "timings.json").write_text(json.dumps(timings))
    content = CURATION | {"sources": {"[red]shelf": {"files": 3, "read": 1000, "kept": 945}}}
    (folder / "curation.json").write_text(json.dumps(content))
    text = printed(folder)
    assert row(text, "read") == ["read", "1,000", "2,000,000", "~600,000", "-", "-", "-"]
    assert row(text, "language") == ["language", "900", "1,900,000", "-", "-10.0%", "0.50", "4.0"]
    assert row(text, "tokenized")[3] == "575,123"
    assert row(text, "personal") == ["personal", "email | <b>[x](y)", "redact", "0", "7"]
    assert row(text, "en")[1] == "900" and row(text, "8-15")[1:3] == ["500", "450"]
    assert row(text, "[red]shelf")[1:] == ["3", "1,000", "945"]
    assert "3 malformed records" in text
    assert "passed over, without text: 12 not a web page" in text


def test_plots_and_card_are_written_where_asked(folder: Path, tmp_path: Path, capsys) -> None:
    """Would catch options that are read and forgotten."""
    (folder / "curation.json").write_text(json.dumps(CURATION))
    plots, card = tmp_path / "pictures", tmp_path / "card.md"
    words = ["corpus", "inspect", str(folder), "--plots", str(plots), "--card", str(card)]
    assert main(words) == 0
    assert sorted(path.name for path in plots.iterdir()) == [
        "funnel.png",
        "languages.png",
        "lengths.png",
    ]
    assert card.read_text().startswith("# Data card")
    out = capsys.readouterr().out
    assert str(card) in out.replace("\n", "") and "funnel" in out


def test_plots_of_a_corpus_without_curation_are_refused(
    folder: Path, tmp_path: Path, capsys
) -> None:
    """Would catch an empty folder that looks like an answer."""
    plots = tmp_path / "pictures"
    assert main(["corpus", "inspect", str(folder), "--plots", str(plots)]) == 2
    assert "no curation.json" in capsys.readouterr().err
    assert not plots.exists()


def test_packing_is_shown_for_the_sequence_length(folder: Path) -> None:
    """Would catch padding shown for another length than the one asked for."""
    length = int(row(printed(folder), "train")[3].replace(",", "")) // 4
    assert row(printed(folder, 2 * (length - 1)), "best_fit") == ["best_fit", "2", "0.00%", "0"]
    assert row(printed(folder, 2 * (length - 1)), "none") == ["none", "4", "50.00%", "0"]
    assert row(printed(folder, length - 2), "none")[3] == "4", "documents split"
