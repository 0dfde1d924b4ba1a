"""`python -m launch.fuzz [--cases N] [--seed S]`: damaged files, read or refused in one line."""

import argparse
import collections
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from launch.fuzz.seeds import write_seeds
from launch.fuzz.targets import TARGETS, play
from trainer.errors import LONGEST_LINE, LyceumError, shown
from trainer.files import path_fault

CASE_SECONDS = 20
"""Of this process's own time: what takes longer hangs."""
CASE_BYTES = 4 << 30
"""Of address space beyond what the process has when it begins."""


class CaseTooLong(BaseException):
    """A case took more time than it may."""


def main(words: list[str] | None = None) -> int:
    """Play the cases; 0 where each was read or refused in one line, 1 where one was not."""
    parser = argparse.ArgumentParser(prog="python -m launch.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="how many (10,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the dice (0)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case (0)")
    parser.add_argument("--only", choices=[one.name for one in TARGETS], help="cases of this kind")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="lyceum-fuzz-") as folder:
        seeds = Path(folder) / "seeds"
        os.environ["LYCEUM_CACHE"] = str(Path(folder) / "cache")
        os.environ["HF_HUB_OFFLINE"] = "1"
        write_seeds(seeds)
        last = given.first + given.cases
        failed = played(given.seed, given.first, last, seeds, Path(folder), given.only)
    print(f"{given.cases:,} cases, seed {given.seed}: {failed} failed")
    return min(failed, 1)


def played(
    seed: int, first: int, last: int, seeds: Path, folder: Path, only: str | None = None
) -> int:
    """Play the cases from `first` to before `last`, in processes of their own, one at a time: what
    crashes costs its case. Prints the failed ones, and returns how many they are.
    """
    known = mmap.mmap(-1, 16)
    failed = 0
    while first < last:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _play_all(seed, first, last, seeds, folder / "scratch", only, known)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        number, faults = struct.unpack("qq", known[:])
        failed += faults
        known[:] = struct.pack("qq", number, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            break
        failed += 1
        print(f"case {number} ended its process, status {status}; {_again(seed, number, only)}")
        first = number + 1
    return failed


def _again(seed: int, number: int, only: str | None) -> str:
    kind = f" --only {only}" if only else ""
    return f"repeat: python -m launch.fuzz --cases 1 --seed {seed} --first {number}{kind}"


def _play_all(
    seed: int, first: int, last: int, seeds: Path, scratch: Path, only: str | None, known: mmap.mmap
) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + CASE_BYTES, used + CASE_BYTES))
    signal.signal(signal.SIGPROF, _too_long)
    seen: collections.Counter[str] = collections.Counter()
    faults = 0
    for number in range(first, last):
        known[:] = struct.pack("qq", number, faults)
        signal.setitimer(signal.ITIMER_PROF, CASE_SECONDS)
        try:
            seen[f"{play(seed, number, seeds, scratch, only)} read"] += 1
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            if _refused(error):
                seen[type(error).__name__] += 1
                continue
            faults += 1
            print(f"case {number} failed; {_again(seed, number, only)}")
            traceback.print_exception(error, file=sys.stdout)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    known[:] = struct.pack("qq", last, faults)
    print(", ".join(f"{name} {count:,}" for name, count in sorted(seen.items())))


def _too_long(*_: object) -> None:
    raise CaseTooLong


def _refused(error: BaseException) -> bool:
    """Whether an error is one that a user may see, and its line is one."""
    known = error if isinstance(error, LyceumError) else path_fault(error)
    line = "" if known is None else shown(known)
    return 10 < len(line) <= 4 * LONGEST_LINE and line.isprintable()


if __name__ == "__main__":
    sys.exit(main())
