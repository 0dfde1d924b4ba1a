"""The resident memory of a process, from Linux's /proc.

Not `ru_maxrss`: a child begins with the peak of the process that started it, and below that it
shows no growth at all.
"""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

MIB = 2**20


def growth_mib(action: Callable[[], object]) -> float:
    """By how many MiB the process grew at most while it did something."""
    gc.collect()
    before = _status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    action()
    return (_status_kib("VmHWM") - before) / 1024


def fresh_process(script: str) -> str:
    """What a Python program prints, run from the root of the repository."""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
