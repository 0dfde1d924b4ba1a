"""What an earlier commit left on a disk still opens, and goes on as that commit would have.

`older/` was made by `make_older.py` at commit eb50acc, with relative paths, on a CPU: a corpus, a
run of each stage that ended at half of its steps, the sets that two of them were tuned on, and
`expected.json`, which says what that commit did next.
"""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility.make_older import (
    CHANGED,
    GENERATE,
    HALF,
    PASSAGE,
    STEPS,
    exact,
    tensor_digests,
    traced,
)
from tests.parity.ranks import on_ranks
from trainer.cli import main

OLDER = Path(__file__).parent / "older"
EXPECTED: dict[str, Any] = json.loads((OLDER / "expected.json").read_text(encoding="utf-8"))
# The same commit repeats its losses to the last bit on one machine, which `against_commit.py`
# demands. Another processor's matrix products add up in another order: 1e-6 after a step, which a
# few steps at these rates keep below 1e-5. A lost moment or another row moves a loss by 1e-3.
ROUNDING = 1e-5


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A copy to work in, whose source files have their old time of change."""
    folder = tmp_path / "older"
    shutil.copytree(OLDER, folder)
    for path in (folder / "raw").iterdir():
        os.utime(path, (CHANGED, CHANGED))
    return folder


def lyceum(folder: Path, *words: str) -> str:
    """What the command prints in `folder`; it must end with 0. Runs on every rank."""
    os.environ["LYCEUM_CACHE"] = str(folder / "cache")
    shown = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(shown):
        assert main(list(words)) == 0, shown.getvalue()
    return shown.getvalue()


def alone(folder: Path, *words: str) -> str:
    """The same on one rank."""
    shown: str = on_ranks(1, lyceum, folder, *words)[0]
    return shown


def figures(folder: Path, name: str) -> list[dict[str, Any]]:
    """What a run's metrics say of each step, apart from times."""
    lines = (folder / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = map(json.loads, lines)
    return [{key: value for key, value in record.items() if exact(key)} for record in records]


@pytest.mark.parametrize("name", ["pretrain", "sft", "preference"])
def test_a_run_goes_on_as_its_own_commit_went_on(older: Path, name: str) -> None:
    """Catches a moment, a position, an adapter or a reference that is read otherwise than it was
    written, and a corpus or set that is not known again, but built anew.
    """
    whole = EXPECTED["runs"][name]
    assert figures(older, name) == whole[:HALF]
    made = {path for place in ("cache", "corpus") for path in (older / place).rglob("*.*")}
    alone(older, "train", f"{name}.yaml")
    continued = figures(older, name)
    assert [record["step"] for record in continued] == list(range(1, STEPS + 1))
    assert continued[:HALF] == whole[:HALF]
    for ours, theirs in zip(continued[HALF:], whole[HALF:], strict=True):
        assert ours == pytest.approx(theirs, abs=ROUNDING, rel=0)
    now = {path for place in ("cache", "corpus") for path in (older / place).rglob("*.*")}
    assert {path for path in now - made if path.suffix != ".lock"} == set()


def test_a_run_goes_on_at_another_layout(older: Path) -> None:
    """Catches an older checkpoint whose tensors only a whole rank can read."""
    keys = ("parallel.pipeline=2", "zero.stage=1")
    on_ranks(2, lyceum, older, "train", "pretrain.yaml", *keys)
    losses = [record["loss"] for record in figures(older, "pretrain")]
    whole = [record["loss"] for record in EXPECTED["runs"]["pretrain"]]
    assert losses == pytest.approx(whole, abs=ROUNDING, rel=0)


def test_a_checkpoint_is_evaluated_and_writes_the_same(older: Path) -> None:
    """Catches other weights, another tokenizer or another rule of sampling."""
    for name, values in EXPECTED["suites"].items():
        alone(older, "evaluate", "runs/pretrain", "--suite", name, "--json", "evaluated.json")
        suites = json.loads((older / "evaluated.json").read_text())["suites"]
        assert list(suites) == [name]
        # A suite may give more figures than it did; perplexity is exp(nats) and moves by its size.
        found = {figure: suites[name][figure] for figure in values}
        assert found == pytest.approx(values, abs=ROUNDING, rel=ROUNDING)
    for temperature, written in EXPECTED["written"].items():
        assert alone(older, *GENERATE, "--temperature", temperature) == written


def test_a_checkpoint_is_exported_bit_for_bit(older: Path) -> None:
    """Catches a tensor that is named, cut or joined otherwise; each is a copy of stored numbers."""
    lyceum(older, "export", "runs/pretrain", "exported")
    assert tensor_digests(older / "exported") == EXPECTED["exported"]


@pytest.mark.parametrize("name", ["pretrain", "sft", "preference"])
def test_checkpoints_are_listed_and_verified(older: Path, name: str) -> None:
    """Catches a check that takes an older form for damage."""
    assert "complete" in lyceum(older, "checkpoint", "ls", f"runs/{name}")
    assert "is complete and unaltered" in lyceum(older, "checkpoint", "verify", f"runs/{name}")


def test_checkpoints_are_compared(older: Path) -> None:
    """Catches a comparison that cannot read an older checkpoint, or finds it unlike itself."""
    same = lyceum(older, "checkpoint", "diff", "runs/pretrain", "runs/pretrain")
    assert "tensors, counters, model and recipe are the same" in same
    adapters = lyceum(older, "checkpoint", "diff", "runs/sft", "runs/preference")
    assert "recipe -stage: sft\n" in adapters and "only in the" not in adapters


def test_runs_are_compared(older: Path) -> None:
    """Catches metrics that can no longer be read; another stage's run is the negative control."""
    same = ("compare", "runs/pretrain", str(OLDER / "runs" / "pretrain"), "--tolerance", "1e-9")
    lyceum(older, *same)
    with contextlib.chdir(older), contextlib.redirect_stdout(io.StringIO()):
        assert main(["compare", "runs/pretrain", "runs/sft", "--tolerance", "1e-9"]) == 5


def test_a_corpus_is_verified_and_looked_at(older: Path) -> None:
    """Catches a manifest, an index, a funnel or an audit that is read otherwise."""
    assert "every shard is as its manifest says" in lyceum(older, "corpus", "verify", "corpus")
    shown = lyceum(older, "corpus", "inspect", "corpus", "--card", "card.md")
    manifest = json.loads((older / "corpus" / "manifest.json").read_text())
    for split in manifest["splits"].values():
        assert f"{split['tokens']:,}" in shown
    assert facts(older / "card.md") == facts(older / "corpus" / "DATA_CARD.md")


def facts(card: Path) -> list[str]:
    """The rows of a data card's tables: its figures, without its prose."""
    lines = card.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("|")]


def test_documents_are_found_and_traced(older: Path) -> None:
    """Catches rows that are replayed from other documents than were trained on."""
    lyceum(older, "corpus", "find", "corpus", PASSAGE, "--json", "found.json")
    found = json.loads((older / "found.json").read_text())
    assert [[hit["id"] for hit in found[side]] for side in ("whole", "partial")] == (
        EXPECTED["found"]
    )
    assert traced(lyceum(older, "corpus", "trace", "runs/pretrain", "2")) == EXPECTED["trace"]
