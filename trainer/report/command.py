"""`lyceum report`: reads the runs, writes the page, whole, and says where it is."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainer.errors import RecipeError
from trainer.files import is_stdout, write_whole
from trainer.report.compose import page_of_run, page_of_runs
from trainer.report.page.render import render
from trainer.report.reading.run_record import RunRecord, read_run
from trainer.report.telling.training import damage

_log = logging.getLogger(__name__)

PAGE = "report.html"
"""The name of the page: in the run's directory, or of several runs in the working directory."""


def report_command(runs: Sequence[Path], out: Path | None) -> Path:
    """Write the page of these runs, print its path, and return it.

    `out`: the file, "-" for standard output; None: RUN/report.html of one run, ./report.html of
    several. Raises DataError for what is no run or has made no step, and RecipeError where a run is
    named twice or the page cannot be written.
    """
    target = out or (runs[0] / PAGE if len(runs) == 1 else Path(PAGE))
    if target.is_dir():
        raise RecipeError(f"--out {target}: is a folder; name a file in it, as {target / PAGE}")
    records = labelled([read_run(run) for run in runs])
    for record in records:
        if record.steps is not None and record.steps.damaged_count:
            _log.warning("%s", damage(record, record.steps))
        if record.state == "running":
            _log.warning("%s goes on: the page shows what it had written by now", record.folder)
    text = render(page_of_run(records[0]) if len(records) == 1 else page_of_runs(records))
    if is_stdout(out):
        print(text)
        return target
    try:
        write_whole(target, text)
    except OSError as error:
        raise RecipeError(
            f"{'--out ' if out else ''}{target}: cannot be written: {error.strerror}; name another"
            " file (--out)"
        ) from None
    print(target)
    return target


def labelled(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with labels that tell them apart: as much of their paths as that takes."""
    folders = [record.folder for record in records]
    if twice := [folder for folder in folders if folders.count(folder) > 1]:
        raise RecipeError(f"{twice[0]}: is named twice; name each run once")
    found = []
    for record in records:
        parts = record.folder.parts
        others = [folder.parts for folder in folders if folder != record.folder]
        length = 1
        while any(other[-length:] == parts[-length:] for other in others):
            length += 1
        own = parts[-length:]
        # What lies between is the same in all of them.
        shown = own if length < 4 or len(records) > 2 else (own[0], "\u2026", own[-1])
        found.append(replace(record, label=os.path.join(*shown)))
    return found
