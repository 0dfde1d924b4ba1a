"""The commands that make a run again."""

import shlex
from pathlib import PurePath

from trainer.report.reading.run_record import RECIPE, RunRecord


def command_of(record: RunRecord) -> tuple[str, str]:
    """The command that the run was last started with, and a sentence about it."""
    if record.merge is not None:
        return record.merge.command, "was made by"
    words = record.environment.get("command")
    if not (isinstance(words, list) and words and all(isinstance(word, str) for word in words)):
        return "", "nothing says by which command it was started."
    program, *arguments = words
    if not arguments or arguments[0] not in ("train", "demo"):
        return shlex.join(words), "was started by a program of its own"
    line = shlex.join(["lyceum", *arguments])
    if arguments[0] == "demo":
        return line, "is a part of the demo, which makes all of it again"
    if _by_module(program) and "--nproc" not in line and _needs_ranks(record):
        line += f" --nproc {record.ranks}"
    return line, "as it was started, in its working directory"


def recipe_command(record: RunRecord) -> str:
    """The command that makes the run again, in another folder, from the recipe that it saved."""
    words = ["lyceum", "train", str(record.folder / RECIPE), f"run={record.folder}-again"]
    if _needs_ranks(record):
        words += ["--nproc", str(record.ranks)]
    return shlex.join(words)


def _by_module(program: str) -> bool:
    return PurePath(program).name in ("lyceum", "__main__.py")


def _needs_ranks(record: RunRecord) -> bool:
    return record.ranks is not None and record.ranks > 1 and record.ranks == record.ranks_a_node
