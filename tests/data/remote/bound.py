"""What a cache takes up on the disk."""

import fcntl
from pathlib import Path


def used(folder: str | Path) -> int:
    """Bytes below the cache's folder, counted while no file comes, moves or goes.

    Without the lock a file that moves meanwhile would be counted twice.
    """
    folder = Path(folder)
    with (folder / "room").open("a") as room:
        fcntl.flock(room, fcntl.LOCK_EX)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
