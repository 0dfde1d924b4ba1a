"""Workers change when a batch is made, never what is in it."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.corpora import random_documents, write_corpus
from trainer.data.batch import IGNORE, Batch
from trainer.data.loader import Loader, validation_batches
from trainer.data.order import shard_order
from trainer.data.stream import Stream
from trainer.errors import DataError, RankFailed


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """A stream of small rows over six shards."""
    train = [random_documents([30, 7, 55, 2, 18] * 3, seed) for seed in range(6)]
    validation = [random_documents([25, 11, 40], seed) for seed in (8, 9)]
    corpus = write_corpus(tmp_path / "corpus", train, validation)
    return {
        "sources": [[str(corpus), 1.0]],
        "split": "train",
        "sequence_length": 24,
        "seed": 3,
        "block_shards": 2,
        "packing": "best_fit",
    }


def assert_same(found: Batch, expected: Batch) -> None:
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.position_ids, expected.position_ids)
    assert (found.first_sequence, found.state) == (expected.first_sequence, expected.state)


def some(loader: Loader, count: int) -> list[Batch]:
    try:
        return list(itertools.islice(loader, count))
    finally:
        loader.close()


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_batches_do_not_depend_on_the_number_of_workers(arguments, workers: int) -> None:
    """Catches workers that share or swap sequences, and a state that runs ahead with prefetch."""
    stream = Stream(**arguments)
    expected = [stream.next(6, [4, 1]) for _ in range(9)]
    found = some(Loader(arguments, 6, [4, 1], workers, prefetch=2), 5)
    for mine, theirs in zip(found, expected, strict=False):
        assert_same(mine, theirs)
    resumed = some(Loader(arguments, 6, [4, 1], workers, prefetch=1, state=found[-1].state), 4)
    for mine, theirs in zip(resumed, expected[5:], strict=True):
        assert_same(mine, theirs)


def test_ranks_divide_each_batch_between_them(arguments) -> None:
    """Catches ranks that read the same rows or leave one out."""
    whole = some(Loader(arguments, 6, range(6), 0), 3)
    parts = [some(Loader(arguments, 6, range(rank, 6, 2), 0), 3) for rank in range(2)]
    for batch, *ranks in zip(whole, *parts, strict=True):
        for rank, part in enumerate(ranks):
            assert torch.equal(part.tokens, batch.tokens[rank::2])
            assert part.state == batch.state


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_found_in_a_worker_is_the_same_one_line(arguments, workers: int) -> None:
    """Catches the stack trace of a worker, a wrong batch, and good batches that are held back."""
    corpus = Path(arguments["sources"][0][0])
    stream, good = Stream(**arguments), 0
    damaged = f"train/shard-{shard_order(6, arguments['seed'], 0, 0)[-1]:05d}.tar"
    with pytest.raises(DataError) as expected:
        (corpus / damaged).unlink()
        while True:
            stream.next(2, [0, 1])
            good += 1
    loader = Loader(arguments, 2, [0, 1], workers)
    with pytest.raises(DataError) as caught:
        for number, _ in enumerate(loader, start=1):
            assert number <= good
    loader.close()
    assert number == good > 0
    assert str(caught.value) == str(expected.value)
    assert damaged in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_corpus_is_found_before_any_worker_starts(arguments) -> None:
    """Catches an error that waits for the first batch."""
    with pytest.raises(DataError, match="no corpus at"):
        Loader({**arguments, "sources": [["absent", 1.0]]}, 2, [0])


def test_closing_ends_the_workers(arguments) -> None:
    """Catches processes that outlive the run."""
    loader = Loader(arguments, 2, [0], workers=2)
    next(loader)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    loader.close()
    for worker in workers:
        worker.join(timeout=600)
        assert not worker.is_alive()


def test_workers_leave_signals_to_the_training_process(arguments) -> None:
    """Catches CTRL-C killing the workers, so that the run dies before it has saved."""
    loader = Loader(arguments, 2, [0], workers=1, prefetch=1)
    next(loader)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(worker.pid, number)
    for _ in range(5):
        next(loader)
    assert worker.is_alive()
    loader.close()


def test_a_worker_that_is_killed_is_one_line(arguments) -> None:
    """Catches a run that waits for ever, or dies with a stack trace, when memory ran out."""
    loader = Loader(arguments, 2, [0], workers=1, prefetch=1)
    next(loader)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    line = rf"data worker, process {worker.pid}, is killed by signal: Killed.*lower data.workers"
    with pytest.raises(RankFailed, match=line) as caught:
        for _ in range(5):
            next(loader)
    assert "\n" not in str(caught.value)
    loader.close()


def test_a_dead_worker_is_told_where_its_batch_is_wanted(arguments) -> None:
    """Catches torch's exception in whatever this process does at the moment, such as a save."""
    loader = Loader(arguments, 2, [0], workers=1, prefetch=1)
    next(loader)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    # Until it is a zombie: its SIGCHLD has come, and nobody has counted it.
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(RankFailed, match=f"process {worker.pid}"):
        next(loader)
    loader.close()


def test_an_error_ends_the_workers(arguments) -> None:
    """Catches workers left behind by an error that nobody closes the loader after."""
    for shard in Path(arguments["sources"][0][0]).glob("train/*.tar"):
        shard.unlink()
    loader = Loader(arguments, 2, [0], workers=2)
    with pytest.raises(DataError, match="shard"):
        next(loader)
    assert multiprocessing.active_children() == []


def test_a_loader_left_open_does_not_hold_up_the_exit(arguments) -> None:
    """Catches a process that waits for ever for workers which leave its SIGTERM alone."""
    use = f"kept = Loader({arguments!r}, 2, [0]); next(kept)"
    program = f"from trainer.data.loader import Loader; {use}"
    ended = subprocess.run([sys.executable, "-c", program], timeout=600, check=False)
    assert ended.returncode == 0


def test_validation_is_the_same_for_every_layout_and_seed(arguments) -> None:
    """Catches a validation loss that moves with the seed, the batch or the ranks."""
    alone = list(validation_batches(arguments, 4, 1, [0]))
    assert len(alone) == 4
    rows = torch.cat([batch.tokens for batch in alone])
    together = list(validation_batches({**arguments, "seed": 99}, 4, 4, range(4)))
    assert len(together) == 1 and torch.equal(together[0].tokens, rows)
    parts = [list(validation_batches(arguments, 4, 4, [rank, rank + 2])) for rank in range(2)]
    for rank, (part,) in enumerate(parts):
        assert torch.equal(part.tokens, rows[rank::2])


def test_validation_ends_with_its_epoch_and_fills_up_with_padding(arguments) -> None:
    """Catches text counted twice, and ranks that make different numbers of steps."""
    whole = list(validation_batches(arguments, 10**6, 1, [0]))
    labels = torch.cat([batch.labels.flatten() for batch in whole])
    expected = [
        token
        for seed in (8, 9)
        for document in random_documents([25, 11, 40], seed)
        for token in document[1:]
    ]
    assert sorted(labels[labels != IGNORE].tolist()) == sorted(expected)
    count, size = len(whole), 4
    assert count % size, "the last batch is not full"
    batches = list(validation_batches(arguments, 10**6, size, range(size)))
    assert len(batches) == -(-count // size)
    assert torch.equal(
        batches[-1].labels[: count % size],
        torch.cat([b.labels for b in whole])[count - count % size :],
    )
    assert (batches[-1].labels[count % size :] == IGNORE).all()
    limited = list(validation_batches(arguments, 2, size, range(size)))
    assert len(limited) == 1 and (limited[0].labels[2:] == IGNORE).all()
    assert (limited[0].labels[:2] != IGNORE).any()
