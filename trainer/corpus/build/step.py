"""What every step of a build shares, as datatrove runs it."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path

import multiprocess
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from trainer.corpus.build.plan import FAILED, BuildPlan
from trainer.corpus.build.record import TaskRecord
from trainer.corpus.build.staged import Staged
from trainer.errors import LyceumError, note_of
from trainer.files import write_whole

DocumentStream = Iterator[Document]

STAGED = "staged"


class BuildStep(PipelineStep):
    """What all steps share: the plan of the build, and the record of the task."""

    type = "build"

    def __init__(self, plan: BuildPlan, record: TaskRecord):
        super().__init__()
        self.plan, self.record = plan, record
        self.folder = Path(plan.folder)


@contextmanager
def reported(folder: Path, name: str) -> Iterator[None]:
    """Leave a user's error where the process that waits for the cluster finds it."""
    path = folder / FAILED / f"{name}.json"
    path.unlink(missing_ok=True)
    try:
        yield
    except LyceumError as error:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(note_of(error)).encode())
        raise


def to_document(staged: Staged, size: int) -> Document:
    """A staged document, of `size` bytes of text, as the steps hand it on."""
    about = {
        "source": staged.source,
        "heading": staged.heading,
        "group": staged.group,
        "bytes": size,
    }
    return Document(text=staged.text, id=staged.id, metadata=about)


def to_staged(document: Document) -> Staged:
    """The document as it is written down between stages."""
    about = document.metadata
    return Staged(document.id, about["source"], about["heading"], document.text, about["group"])


def leave_signals_to_the_parent() -> None:
    """CTRL-C reaches the whole terminal; in a worker, the parent decides what it means."""
    if parent_process() is not None or multiprocess.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
