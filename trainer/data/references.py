"""A reference model's log-probabilities of a set's answers, stored beside the set's shards."""

import json
from pathlib import Path

import numpy as np

from trainer.data.manifest import Shard
from trainer.data.shards import file_sha256
from trainer.errors import DataError
from trainer.files import build_lock, whole_file, write_whole

DONE = "references.json"


def reference_folder(corpus: Path, key: str) -> Path:
    """The folder of a set's log-probabilities under the reference model named `key`."""
    return corpus / "references" / key


def has_references(folder: Path) -> bool:
    """Whether the folder holds a complete set of log-probabilities."""
    return (folder / DONE).is_file()


def write_references(folder: Path, values: dict[str, np.ndarray], origin: dict[str, str]) -> None:
    """Write the log-probabilities in nats, float32 [documents, segments] by shard name, atomically.

    `origin` names the reference model, for human readers. What another run stored in the meantime
    stays: at another layout it may differ in the last bit, and that run is reading it already.
    """
    with build_lock(folder):
        if not has_references(folder):
            _write(folder, values, origin)


def _write(folder: Path, values: dict[str, np.ndarray], origin: dict[str, str]) -> None:
    digests = {}
    for name, array in values.items():
        path = _path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.save(file, array.astype(np.float32), allow_pickle=False)
        status = path.stat()
        digests[name] = file_sha256(str(path), status.st_size, status.st_mtime_ns)
    content = {"reference": origin, "sha256": digests}
    write_whole(folder / DONE, json.dumps(content, indent=1).encode())


def read_references(folder: Path, shard: Shard, segments: int) -> np.ndarray:
    """The log-probabilities of one shard's answers in nats, float32 [documents, segments].

    Raises DataError where they are missing, altered, or of another shard.
    """
    path, mend = _path(folder, shard.name), f"remove {folder}, and they are computed again"
    try:
        expected = json.loads((folder / DONE).read_text(encoding="utf-8"))["sha256"][shard.name]
        status = path.stat()
        found = file_sha256(str(path), status.st_size, status.st_mtime_ns)
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {mend}") from None
    if found != expected or values.shape != (shard.documents, segments):
        raise DataError(f"{path}: was altered; {mend}")
    return np.asarray(values)


def _path(folder: Path, shard: str) -> Path:
    return folder / (shard.removesuffix(".tar") + ".npy")
