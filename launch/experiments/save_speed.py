"""How long a save of large state stalls training, what it costs, and how fast it is read back.

    python -m launch.experiments.save_speed [--against CHECKOUT] [--mib N] [--ranks N] [--rounds N]

Ranks of this working tree save the state in the background, then read it back whole; those of
another checkout of the project (`git worktree add ../before eb50acc`) save it as that does, the
loop waiting; and plain processes write and read as many bytes one behind another, each its file,
fsynced. In turn, each in fresh processes; what is read was dropped from the page cache before.
Prints the medians over the rounds, the slowest rank's of each, and the ratios.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TENSOR_MIB = 16
SAVES = 3
"""Saves, and readings, of a rank; the first is not counted: the page cache may be new to it."""


def main() -> None:
    """Measure in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--mib", type=int, default=1200)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; none: a temporary one")
    given = parser.parse_args()
    kinds = {"here": ROOT, "plain": ROOT}
    if given.against:
        kinds["before"] = given.against.resolve()
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        for number in range(given.rounds):
            for kind, checkout in kinds.items():
                folder = Path(scratch) / f"{kind}-{number}"
                folder.mkdir()
                figures = _measure(kind, checkout, folder, given.ranks, given.mib)
                shutil.rmtree(folder)
                print(kind, {name: round(value, 3) for name, value in figures.items()}, flush=True)
                for name, value in figures.items():
                    found[kind].setdefault(name, []).append(value)
    medians = {
        kind: {name: statistics.median(values) for name, values in figures.items()}
        for kind, figures in found.items()
    }
    for kind, figures in medians.items():
        print("median,", kind, {name: round(value, 3) for name, value in figures.items()})
    here, plain = medians["here"], medians["plain"]
    print(f"save, of plain writing: {plain['write_seconds'] / here['save_seconds']:.2f}")
    print(f"load, of plain reading: {plain['read_seconds'] / here['load_seconds']:.2f}")
    if "before" in medians:
        before = medians["before"]
        print(f"stall, of before: {here['stall_seconds'] / before['save_seconds']:.3f}")
        print(f"CPU beside, of before: {here['cpu_seconds'] / before['cpu_seconds']:.2f}")


def _measure(kind: str, checkout: Path, folder: Path, ranks: int, mib: int) -> dict[str, float]:
    """Each figure of the slowest rank; CPU time of all together."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(Path(__file__)), kind, str(folder), str(ranks), str(mib)]
    processes = [
        subprocess.Popen(
            [*words, str(rank)], cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True
        )
        for rank in range(ranks)
    ]
    answers = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{kind}: a rank failed")
    figures = [json.loads(answer.splitlines()[-1]) for answer in answers]
    return {
        name: (sum if name.startswith("cpu") else max)(one[name] for one in figures)
        for name in figures[0]
    }


def as_rank(kind: str, folder: Path, ranks: int, mib: int, rank: int) -> dict[str, float]:
    """One rank's figures, in seconds; it meets the others over a file."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=ranks
    )
    numbers = range(mib // ranks // TENSOR_MIB)
    tensors = [torch.randn(TENSOR_MIB << 18) for _ in numbers]
    act = {"here": _here, "before": _before, "plain": _plain}[kind]
    figures = act(folder, tensors, rank)
    dist.barrier()
    return figures


def _pieces(tensors: list[Any], rank: int) -> list[Any]:
    from trainer.checkpoint import Piece

    return [
        Piece(f"model/rank-{rank}-{number}", tuple(tensor.shape), (0,), tensor)
        for number, tensor in enumerate(tensors)
    ]


def _here(folder: Path, tensors: list[Any], rank: int) -> dict[str, float]:
    import torch
    import torch.distributed as dist

    from trainer.checkpoint import open_checkpoint
    from trainer.checkpoint.background import BackgroundSaver, Snapshot

    saver = BackgroundSaver(torch.device("cpu"), lambda: None)
    saver.prepare(sum(tensor.nbytes for tensor in tensors))  # as a run does before its first step
    saver.snapshot(1, [])
    stalls, seconds, cpu = [], [], []
    path = folder
    for step in range(1, SAVES + 1):
        dist.barrier()
        began = time.perf_counter()
        pieces = saver.snapshot(1, _pieces(tensors, rank))
        stalls.append(saver.start([Snapshot(folder, step, pieces, {}, {}, {})], began))
        used, at = time.process_time(), time.perf_counter()
        finished = saver.wait()
        seconds.append(time.perf_counter() - at)
        cpu.append(time.process_time() - used)
        if finished.error is not None:
            raise finished.error
        path = finished.path

    def load() -> None:
        reader = open_checkpoint(path)  # whose files are hashed, shared out over the ranks
        for piece in _pieces(tensors, rank):
            reader.read(piece.key, own=False)  # as `restore` does: the file's own pages

    return {
        "first_stall_seconds": stalls[0],
        "stall_seconds": statistics.median(stalls[1:]),
        "save_seconds": statistics.median(seconds[1:]),
        "cpu_seconds": statistics.median(cpu[1:]),
        "load_seconds": _timed_reading(path, load),
    }


def _before(folder: Path, tensors: list[Any], rank: int) -> dict[str, float]:
    import torch.distributed as dist

    from trainer.checkpoint import save_checkpoint

    seconds, cpu = [], []
    for step in range(1, SAVES + 1):
        dist.barrier()
        began, used = time.perf_counter(), time.process_time()
        pieces = _pieces(tensors, rank)
        save_checkpoint(folder, step, pieces, model={}, counters={}, attachments={})
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return {
        "save_seconds": statistics.median(seconds[1:]),
        "cpu_seconds": statistics.median(cpu[1:]),
    }


def _plain(folder: Path, tensors: list[Any], rank: int) -> dict[str, float]:
    import torch.distributed as dist

    seconds = []
    path = folder / f"rank-{rank}"
    for step in range(SAVES):
        path = folder / f"rank-{rank}-{step}"
        dist.barrier()
        began = time.perf_counter()
        with open(path, "wb", buffering=0) as file:
            for tensor in tensors:
                file.write(tensor.numpy().data)
            os.fsync(file.fileno())
        seconds.append(time.perf_counter() - began)
    block = bytearray(TENSOR_MIB << 20)

    def read() -> None:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass

    return {
        "write_seconds": statistics.median(seconds[1:]),
        "read_seconds": _timed_reading(path, read),
    }


def _timed_reading(path: Path, read: Callable[[], None]) -> float:
    """The median of readings behind the first, each of files that the page cache does not hold."""
    import torch.distributed as dist

    seconds = []
    for _ in range(SAVES):
        _forget(path)
        dist.barrier()
        began = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _forget(path: Path) -> None:
    """Drop files from the page cache."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    if len(sys.argv) > 5 and sys.argv[1] in ("here", "before", "plain"):
        kind, folder, ranks, mib, rank = sys.argv[1:]
        print(json.dumps(as_rank(kind, Path(folder), int(ranks), int(mib), int(rank))))
    else:
        main()
