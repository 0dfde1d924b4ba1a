"""A trace leads from a row back to exactly the documents that filled it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.corpora import random_documents, write_corpus
from trainer.data.batch import IGNORE
from trainer.data.stream import Stream
from trainer.errors import RecipeError
from trainer.recipe import Recipe
from trainer.sources import stream_arguments
from trainer.trace import consumed_rows, nearest_state, trace, trace_command

TRAIN = [random_documents([30, 7, 95, 2, 18] * 2, seed) for seed in range(5)]
TEXT = "the quick brown fox [bold] jumps over the lazy dog\n"


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """A stream over two corpora."""
    one = write_corpus(tmp_path / "one", TRAIN[:3])
    two = write_corpus(tmp_path / "two", TRAIN[3:])
    return {
        "sources": [[str(one), 2.0], [str(two), 1.0]],
        "sequence_length": 24,
        "seed": 3,
        "block_shards": 2,
    }


def document_of(entry) -> list[int]:
    assert entry.corpus == ("/two/" in entry.shard)
    shard = int(entry.document_id.split(".")[1]) + 3 * entry.corpus
    return TRAIN[shard][entry.index]


def test_a_trace_gives_the_tokens_of_the_batch(arguments) -> None:
    """Catches a trace that names other documents than were trained on."""
    stream = Stream(**arguments)
    for step in range(1, 6):
        batch = stream.next(4, range(4))
        entries = trace(arguments, 4, step)
        supervised = torch.zeros(4, 24, dtype=torch.bool)
        for entry in entries:
            place = slice(entry.start, entry.start + entry.length)
            first, last = entry.piece_start, entry.piece_start + entry.length
            document = document_of(entry)
            assert batch.tokens[entry.row, place].tolist() == document[first:last]
            assert batch.labels[entry.row, place].tolist() == document[first + 1 : last + 1]
            assert list(entry.first_tokens) == document[first : first + len(entry.first_tokens)]
            supervised[entry.row, place] = True
        assert torch.equal(supervised, batch.labels != IGNORE), "nothing is left out"
        assert [entry for entry in entries if entry.row == 2] == trace(arguments, 4, step, 2)


def test_a_trace_from_a_saved_state_is_the_trace_from_the_start(arguments) -> None:
    """Catches a step miscounted between a checkpoint and the step asked for."""
    stream = Stream(**arguments)
    for _ in range(6):
        state = stream.next(4, [0]).state
    assert trace(arguments, 4, 9, state=state, state_step=6) == trace(arguments, 4, 9)
    assert trace(arguments, 4, 7, state=state, state_step=6) == trace(arguments, 4, 7)


def test_consumed_rows_are_those_of_the_batches(arguments) -> None:
    """Catches a baseline fitted on other tokens than the model saw."""
    stream = Stream(**arguments)
    batches = [stream.next(4, range(4)) for _ in range(3)]
    rows = list(consumed_rows(arguments, 4, 3))
    for place, name in enumerate(("tokens", "labels", "position_ids")):
        expected = torch.cat([getattr(batch, name) for batch in batches])
        assert torch.equal(torch.stack([row[place] for row in rows]), expected)


def test_the_nearest_earlier_state_is_found(tmp_path: Path) -> None:
    """Catches a replay from the start, or from a state after the step."""
    assert nearest_state(tmp_path, 5) == (None, 0)
    for step in (2, 3, 4, 6):
        folder = tmp_path / f"checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        content = {"step": step, "counters": {"stream": {"sequences": step} if step != 3 else None}}
        (folder / "checkpoint.json").write_text(json.dumps(content))
    (tmp_path / "checkpoints/step-00000004/checkpoint.json").write_text("{")
    assert nearest_state(tmp_path, 2) == (None, 0)
    assert nearest_state(tmp_path, 6) == ({"sequences": 2}, 2), "a damaged one is passed over"
    assert nearest_state(tmp_path, 7) == ({"sequences": 6}, 6)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run on two corpora of one text, ten times each: folders and shards have the same names."""
    from trainer.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([TEXT] * 10, 300)
    document = [tokenizer.end_of_text, *tokenizer.encode(TEXT), tokenizer.end_of_text]
    for folder in ("a/corpus", "b/corpus"):
        (tmp_path / folder).mkdir(parents=True)
        made = write_corpus(tmp_path / folder, [[document] * 10], tokenizer=tokenizer.fingerprint)
        tokenizer.save(made / "tokenizer")
    recipe = Recipe.from_keys(
        {
            "run": str(tmp_path / "run"),
            "steps": 5,
            "sequence_length": 32,
            "model": {"layers": 1, "hidden": 16, "heads": 1, "ffn": 32},
            "batch": {"sequences": 2},
            "optimizer": {"lr": 0.001},
            "data": {
                "mixture": [{"corpus": str(tmp_path / f"{one}/corpus")} for one in ("a", "b")]
            },
        }
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text(recipe.to_yaml())
    return tmp_path / "run"


def test_the_command_prints_documents_and_their_words(run_dir: Path, capsys, monkeypatch) -> None:
    """Catches a command that prints numbers alone, or takes brackets in a text for markup."""
    monkeypatch.setenv("COLUMNS", "300")
    trace_command(run_dir, 1, 0)
    printed = capsys.readouterr().out
    assert "shard-00000.tar #" in printed and "train.0." in printed and "fox [bold] ju" in printed


def test_the_corpus_stands_beside_the_shard(run_dir: Path, capsys, monkeypatch) -> None:
    """Catches two corpora that cannot be told apart because their shards have the same names."""
    monkeypatch.setenv("COLUMNS", "300")
    trace_command(run_dir, 1)
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "#" in line]
    assert {row[4] for row in rows} == {"corpus", "corpus-2"}
    assert {row[5].partition(" ")[0] for row in rows} == {"train/shard-00000.tar"}
    assert lines[-2:] == [
        f"corpus: {run_dir.parent}/a/corpus",
        f"corpus-2: {run_dir.parent}/b/corpus",
    ]


@pytest.mark.parametrize(("step", "row"), [(0, None), (6, None), (1, 2), (1, -1)])
def test_a_step_or_row_that_is_not_there_is_one_line(run_dir: Path, step: int, row) -> None:
    """Catches a stack trace, or the trace of another row."""
    with pytest.raises(RecipeError, match=r"no (step|row) "):
        trace_command(run_dir, step, row)


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    """Catches a stack trace for a mistyped path."""
    with pytest.raises(RecipeError, match="is not a run"):
        trace_command(tmp_path, 1, None)


def test_stream_arguments_survive_json_and_make_the_stream(run_dir: Path) -> None:
    """Catches arguments that no worker and no run record could carry."""
    recipe = Recipe.from_yaml((run_dir / "recipe.yaml").read_text())
    folders = [part.corpus for part in recipe.data.mixture]
    made = stream_arguments(recipe, folders)
    assert json.loads(json.dumps(made)) == made
    assert Stream(**made).next(2, [0]).tokens.shape == (1, 32)
