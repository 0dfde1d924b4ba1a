"""`lyceum bench gpu` where the sources lie but are not installed: python -m trainer.bench.gpu."""

import os
import sys

if __name__ == "__main__":
    command = [sys.executable, "-m", "trainer", "bench", "gpu", *sys.argv[1:]]
    os.execv(sys.executable, command)
