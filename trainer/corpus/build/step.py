"""The base of a build's steps, which datatrove runs, and conversions from and to its documents."""

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
    """A datatrove step that has the plan of the build and the record of its task."""

    type = "build"

    def __init__(self, plan: BuildPlan, record: TaskRecord):
        super().__init__()
        self.plan, self.record = plan, record
        self.folder = Path(plan.folder)


@contextmanager
def reported(folder: Path, name: str) -> Iterator[None]:
    """Write an error that the user caused to failed/NAME.json, for the waiting process; reraise."""
    path = folder / FAILED / f"{name}.json"
    path.unlink(missing_ok=True)
    try:
        yield
    except LyceumError as error:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(note_of(error)).encode())
        raise


def to_document(staged: Staged, size: int) -> Document:
    """A staged document, with `size` bytes of text, as the document that steps pass on."""
    about = {
        "source": staged.source,
        "heading": staged.heading,
        "group": staged.group,
        "bytes": size,
    }
    return Document(text=staged.text, id=staged.id, metadata=about)


def to_staged(document: Document) -> Staged:
    """The inverse of `to_document`."""
    about = document.metadata
    return Staged(document.id, about["source"], about["heading"], document.text, about["group"])


def leave_signals_to_the_parent() -> None:
    """Ignore SIGINT in a worker: CTRL-C reaches all processes, and the parent alone handles it."""
    if parent_process() is not None or multiprocess.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
