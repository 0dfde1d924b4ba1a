"""Which modules a command loads: by their names, as seconds depend on the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules_after(*words: str, folder: Path = ROOT) -> set[str]:
    """The modules that are loaded once `lyceum` has run these words in `folder`, in a process.

    Its cache is the folder's; it must end with 0.
    """
    program = (
        "import json, sys\nfrom trainer.cli import main\n"
        f"code = main({list(words)!r})\nprint('\\n' + json.dumps(sorted(sys.modules)))\n"
        "sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LYCEUM_CACHE": str(folder / "cache")}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout.splitlines()[-1]))
