"""A run over a mixture: its shares in the metrics, its ends in the log, and exact resume."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpora import write_corpus
from tests.parity.ranks import Died, on_ranks
from tests.training.runs import losses, recipe_of, train_here, train_until, write_text
from trainer.data.manifest import load_manifest
from trainer.observe import read_metrics
from trainer.plan.mixture import mixture_report
from trainer.plan.show import show
from trainer.recipe import Recipe

BATCH = 8


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Keys of a mixture of two corpora, one of which ends within the run."""
    from trainer.data.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("mixed")
    path = write_text(folder)
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    tokenizer = train_tokenizer(texts, 384)
    end = tokenizer.end_of_text
    documents = [[end, *tokenizer.encode(text), end] for text in texts]
    for number, name in enumerate(("web", "code")):
        mine = documents[number::2]
        shards = [mine[:70], mine[70:140], mine[140:]]
        write_corpus(folder / name, shards, shards[:1], tokenizer=tokenizer.fingerprint)
        tokenizer.save(folder / name / "tokenizer")
    mixture = [
        {"corpus": str(folder / "web"), "weight": 0.75},
        {"corpus": str(folder / "code"), "weight": 0.25, "epochs": 1},
    ]
    stages = [{"after_step": 3, "weights": {"web": 0.0, "code": 1.0}}]
    # The second source gives 6 sequences in three steps, then a batch a step to its end.
    steps = 3 + (epoch_rows(folder / "code") - 6) // BATCH + 4
    return {
        "data__mixture": mixture,
        "data__curriculum": [*stages, {"after_step": steps - 5, "weights": {"web": 1, "code": 1}}],
        "steps": steps,
    }


def epoch_rows(folder: Path) -> int:
    """Exact sequences of the first epoch, by going through it."""
    from trainer.data.stream import Stream

    stream = Stream([(str(folder), 1.0)], sequence_length=128, seed=1234)
    while not stream.ends_epoch():
        stream.advance()
    return stream.sequences


def keys_of(mixed: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"sequence_length": 128, "checkpoint__every": 2, **mixed, **more}


def shares(recipe: Recipe) -> list[tuple[float, float]]:
    return [(r["mixture/web"], r["mixture/code"]) for r in read_metrics(Path(recipe.run))]


def told(recipe: Recipe, rank: int = 0) -> list[str]:
    """The lines of a rank's log about the mixture."""
    lines = (Path(recipe.run) / "logs" / f"rank-{rank}.log").read_text().splitlines()
    return [line.partition(": ")[2] for line in lines if "shares are now" in line]


def test_a_run_tells_its_shares_and_resumes_bitwise(
    tmp_path: Path, corpus: Path, mixed: dict[str, Any]
) -> None:
    """Catches shares that forget the time before a resume, and an end told twice or never."""
    whole = recipe_of(tmp_path / "whole", corpus, **keys_of(mixed))
    assert on_ranks(2, train_here, whole) == [None] * 2
    expected = shares(whole)
    assert expected[2] == (0.75, 0.25), "three quarters of the first 24 sequences"
    assert expected[3] == (18 / 32, 14 / 32), "then the second source alone"
    assert all(web + code == pytest.approx(1) for web, code in expected)
    lines = told(whole)
    ends = [line for line in lines if "code is read to its end" in line]
    stages = [line for line in lines if "new weights hold" in line]
    assert len(ends) == 1 and ends[0].endswith("the shares are now web 1.0000")
    assert len(stages) == 2 and stages[0] == (
        "after step 3: new weights hold from sequence 24 on; the shares are now code 1.0000"
    )
    assert told(whole, rank=1) == lines

    killed = recipe_of(tmp_path / "killed", corpus, **keys_of(mixed))
    with pytest.raises(Died):
        on_ranks(2, train_until, killed, whole.steps - 1, signal.SIGKILL)
    reached = len(read_metrics(tmp_path / "killed"))
    before = len(told(killed))
    assert on_ranks(2, train_here, killed) == [None] * 2
    assert losses(killed) == losses(whole), f"killed after step {reached}"
    assert shares(killed) == expected
    again = [line for line in told(killed)[before:] if int(line.split()[2][:-1]) <= reached - 2]
    assert again == [], "what the checkpoint knew is not told again"


def test_data_that_ends_ends_the_run_in_one_line(
    tmp_path: Path, corpus: Path, mixed: dict[str, Any]
) -> None:
    """Catches ranks that wait for each other at the end of the data."""
    sources = [{**source, "epochs": 1} for source in mixed["data__mixture"]]
    rows = [epoch_rows(Path(source["corpus"])) for source in sources]
    keys = {"sequence_length": 128, "data__mixture": sources}
    recipe = recipe_of(tmp_path / "run", corpus, steps=sum(rows) // BATCH + 1, **keys)
    (kind, line), other = on_ranks(2, train_here, recipe)
    assert kind == other[0] == "DataError" and other[1] == line
    assert f"the data ends at sequence {sum(rows)}" in line
    assert len(losses(recipe)) == sum(rows) // BATCH
    long = recipe_of(tmp_path / "long", corpus, steps=100000, **keys)
    kind, line = on_ranks(1, train_here, long)[0]
    assert kind == "DataError" and "the run wants 800000 sequences" in line
    assert read_metrics(tmp_path / "long") == []


def test_show_tells_shares_epochs_and_ends(
    tmp_path: Path, corpus: Path, mixed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a table of wrong shares, and a corpus that is absent unnoticed."""
    recipe = recipe_of(tmp_path / "run", corpus, **keys_of(mixed))
    show(recipe)
    printed = capsys.readouterr().out
    assert "after step 3 the shares are web 0.00%, code 100.00%\n" in printed
    table, lines = mixture_report(recipe)
    cells = [list(column.cells) for column in table.columns]
    split = load_manifest(mixed["data__mixture"][1]["corpus"]).splits["train"]
    size = -(-(split.tokens - split.documents) // 128)
    assert cells[0] == ["web", "code"] and cells[1] == ["75.00%", "25.00%"]
    assert cells[2][1] == f"{size:,}" and len(lines) == 2, "one for each later stage"
    # The estimate is without padding: the real end comes within a step or so of it.
    assert abs(int(cells[-1][1]) - (3 + -(-(size - 6) // BATCH))) <= 1
    absent = [{"corpus": str(tmp_path / "absent")}]
    _, lines = mixture_report(recipe_of(tmp_path / "run", corpus, data__mixture=absent))
    assert lines[0].startswith("warning: data.mixture.0.corpus: no corpus at")
