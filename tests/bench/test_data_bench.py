"""The data benchmark's figures are worth something only if all read the same and pay for all."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.parity.ranks import warm_context
from trainer.bench.data import ours, peers
from trainer.bench.data.command import bench_command
from trainer.bench.data.corpus import Workload, document_lengths, make_corpus
from trainer.bench.data.measure import cpu_seconds, measure
from trainer.bench.data.text import python_texts
from trainer.data.manifest import load_manifest
from trainer.data.shards import ShardReader
from trainer.errors import DataError, RecipeError

TOKENS = 60_000
BURNT_SECONDS = 0.6


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small corpus in a cache of its own."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    return make_corpus(TOKENS)


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contestant's process is the warm server's fork: a fresh one imports torch for seconds."""
    context = warm_context()
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


def workload(folder: Path, rows: int = 2, sequence_length: int = 512) -> Workload:
    split = load_manifest(folder / "shards").splits["train"]
    return Workload(str(folder), split.tokens, split.documents, sequence_length, rows, 8)


def test_all_forms_hold_the_same_documents(corpus: Path) -> None:
    """Would catch a peer that reads less, or other documents, than we do."""
    import pyarrow.parquet

    manifest = load_manifest(corpus / "shards")
    documents: list[np.ndarray] = []
    for shard in manifest.splits["train"].shards:
        reader = ShardReader(corpus / "shards", shard, manifest.token_dtype)
        documents += [reader.tokens(i, 0, n) for i, n in enumerate(reader.lengths.tolist())]
    flat = np.fromfile(corpus / "flat" / "tokens.bin", dtype="<u2")
    assert np.array_equal(flat, np.concatenate(documents)) and len(flat) >= TOKENS
    listed = pyarrow.parquet.read_table(corpus / "parquet")["tokens"].to_pylist()
    assert listed == [document.tolist() for document in documents]
    assert all(document[0] == document[-1] == 0 and len(document) > 2 for document in documents)


def test_lengths_are_those_of_web_text() -> None:
    """Would catch a corpus of even lengths, on which every packer looks good."""
    lengths = document_lengths(100_000_000)
    assert 380 < np.median(lengths) < 420 and lengths.max() > 50_000
    assert 0 <= lengths.sum() - 100_000_000 < lengths.max()


def test_a_corpus_is_made_once_and_never_half(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch minutes spent again, and a corpus that a full disk cut short taken for whole."""
    before = (corpus / "shards" / "manifest.json").stat().st_mtime_ns
    assert make_corpus(TOKENS) == corpus
    assert (corpus / "shards" / "manifest.json").stat().st_mtime_ns == before

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.bench.data.corpus.write_manifest", full)
    with pytest.raises(DataError, match=r"No space left on device.*LYCEUM_CACHE"):
        make_corpus(TOKENS + 1)
    assert sorted(path.name for path in corpus.parent.iterdir()) == [corpus.name]


def test_every_peer_gives_batches_of_the_same_shape(corpus: Path) -> None:
    """Would catch a peer that is fast because it does less: short rows, or too few batches."""
    work = workload(corpus)
    positions = work.batches * work.rows * work.sequence_length
    assert positions > 0.9 * TOKENS
    for name, contestant in peers.CONTESTANTS.items():
        if name.endswith("0 workers"):
            assert contestant(work)() == positions, name


def test_chunks_are_the_documents_end_to_end(corpus: Path) -> None:
    """Would catch tokens lost between the rows of a peer, and labels that are not the next ones."""
    work = workload(corpus, rows=3, sequence_length=100)
    tokens = np.arange(2000)
    documents = [{"tokens": part} for part in np.split(tokens, [7, 400, 401, 1500])]
    batches = list(peers._Chunked(documents, work))
    joined = torch.cat([batch.flatten() for batch, _ in batches])
    assert torch.equal(joined, torch.arange(1800)) and len(batches) == 6
    assert all(torch.equal(labels, batch + 1) for batch, labels in batches)


def test_our_parts_handle_the_whole_corpus(corpus: Path) -> None:
    """Would catch a part that is measured on some of the shards."""
    work = workload(corpus)
    assert ours.read(work)() == work.tokens
    assert ours.plan(work)() == work.tokens - work.documents
    assert ours.assemble(work)() == ours.batches(work, 0)() > 0.9 * TOKENS


class _Burning(IterableDataset[int]):
    """Work of at least a known CPU time, in a worker."""

    def __iter__(self) -> Any:
        end = cpu_seconds() + BURNT_SECONDS
        while cpu_seconds() < end:
            pass
        yield 1


def burn(workers: int) -> Callable[[], int]:
    return lambda: len(list(DataLoader(_Burning(), batch_size=None, num_workers=workers)))


def fail(_: Any) -> Callable[[], int]:
    raise ValueError("no such thing")


@pytest.mark.parametrize("workers", [0, 1])
def test_cpu_time_of_workers_is_counted(workers: int) -> None:
    """Would catch a figure that leaves out the processes that do the work."""
    (figure,) = measure({"burning": burn}, workers, repeats=1)
    assert figure.amount == 1
    assert figure.cpu_seconds[0] >= BURNT_SECONDS


def prepare(_: Any) -> Callable[[], int]:
    """Of the process that measures, counts steps for CPU seconds: two to prepare, three of work."""
    import trainer.bench.data.measure as measuring

    steps = ["import", "open"]
    measuring.cpu_seconds = lambda: float(len(steps))

    def work() -> int:
        steps.extend(["read", "read", "read"])
        return 1

    return work


@pytest.mark.usefixtures("warm")
def test_what_prepares_the_work_is_not_counted() -> None:
    """Would catch a figure that holds a contestant's imports, which are seconds of torch."""
    (figure,) = measure({"prepared": prepare}, None, repeats=1)
    assert figure.cpu_seconds == (3.0,)


@pytest.mark.usefixtures("warm")
def test_a_contestant_that_fails_is_one_line() -> None:
    """Would catch a benchmark that waits for a process that is gone."""
    with pytest.raises(DataError, match=r"^bench data: broken: ValueError: no such thing$"):
        measure({"broken": fail}, None, repeats=1)


def test_texts_are_as_many_as_asked() -> None:
    """Would catch an empty tokenization, or one of all of the library."""
    texts = python_texts(200_000)
    assert 200_000 <= sum(map(len, texts)) < 600_000 and len(texts) > 20
    assert min(map(len, texts)) > 0


@pytest.mark.parametrize("option", ["json", "plots"])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, option: str) -> None:
    """Would catch minutes of measuring whose figures are then lost."""
    (tmp_path / "file").write_text("")
    places = {
        "json": {"json_file": tmp_path / "absent" / "figures.json"},
        "plots": {"plots": tmp_path / "file"},
    }
    with pytest.raises(RecipeError, match=f"--{option}"):
        bench_command(TOKENS, **places[option])


@pytest.mark.usefixtures("warm")
def test_the_whole_benchmark_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a contestant left out of table, file or picture, and a wrong unit in the file."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    # The other peers take seconds of imports each; the test above runs them all.
    name = "numpy memmap, 0 workers"
    monkeypatch.setattr(peers, "CONTESTANTS", {name: peers.CONTESTANTS[name]})
    file = tmp_path / "figures.json"
    bench_command(TOKENS, 256, file, tmp_path / "plots", repeats=1)
    figures, printed = json.loads(file.read_text()), capsys.readouterr().out
    names = [figure["name"] for figure in figures["tokens"]]
    assert names == [*ours.CONTESTANTS, name]
    for figure in figures["tokens"] + figures["text_bytes"]:
        rate = figure["amount"] / figure["cpu_seconds"][0]
        assert figure["per_cpu_second"] == pytest.approx(rate)
        assert figure["name"].split(":")[0] in printed
    ours_text, bare_text = (figure["per_cpu_second"] for figure in figures["text_bytes"])
    assert figures["tokenization_share_of_bare"]["cpu"] == pytest.approx(ours_text / bare_text)
    assert figures["versions"]["torch"] == torch.__version__
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"data.png", "data.svg"}
    assert all(path.stat().st_size > 5000 for path in (tmp_path / "plots").iterdir())
