"""The `lyceum` command: one typed function a verb, no logic; heavy imports wait for their verb."""

import logging
import os
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from trainer import __version__
from trainer.addresses import PlainFormatter, redacted
from trainer.cli import bench, corpus, evaluation, models, training
from trainer.cli.grammar import Verbs
from trainer.errors import LyceumError, StopRequested, shown


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; what a user caused is shown as one line."""
    words = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(handlers=[_screen()])
    sys.excepthook = _show_fault
    logging.getLogger("trainer").setLevel(logging.INFO)
    # OpenMP threads that spin while they wait slow a busy machine down tenfold; read on import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "--debug" not in words:
        _silence_dependencies()
    try:
        code = _run(words)
        print(end="", flush=True)  # at exit, Python would say more of an error than its line
        return code
    except LyceumError as error:
        return _failed(error, words)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from launch.failure import leave_failure
        from launch.output import reader_has_left, unwritable
        from trainer.files import path_fault

        if fault := unwritable(error) or path_fault(error):
            return _failed(fault, words)
        if not (reader_has_left(error) or leave_failure(error)):
            raise
        return 1


def _screen() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(message)s"))
    return handler


def _show_fault(kind: type[BaseException], fault: BaseException, trace: Any) -> None:
    """Print the stack trace of a fault of our own, its addresses without their secrets."""
    lines = traceback.format_exception(kind, fault, trace)
    print(redacted("".join(lines)), end="", file=sys.stderr)


def _run(words: list[str]) -> int:
    """Parse the words and run their verb: its exit code.

    Not by calling the app: typer's own main turns broken pipes and Ctrl-C into exits of its own.
    """
    command = typer.main.get_command(application)
    try:
        with command.make_context("lyceum", list(words)) as context:
            return command.invoke(context) or 0
    except typer.Exit as exit_:  # --help and --version
        return exit_.exit_code


application = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,  # rich would cost more than the whole help
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="VERB ...",
)
for _module in (training, evaluation, models, corpus, bench):
    application.add_typer(_module.verbs)
application.add_typer(models.checkpoint)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"lyceum {__version__}")
        raise typer.Exit


@application.callback()
def _whole(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            expose_value=False,
            help="Print the version.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", expose_value=False, help="Show the whole trace of an error; on any verb."
        ),
    ] = False,
) -> None:
    """Train language models, from raw text to a measured model."""


def _silence_dependencies() -> None:
    """Hide Python's warnings: dependencies speak to their callers by them, not to our users.

    A list of the noisy ones would not end, and we ourselves raise none.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _failed(error: LyceumError, words: list[str]) -> int:
    """Show the error and return its exit code."""
    if "--debug" in words:
        print(redacted(traceback.format_exc()), end="", file=sys.stderr)
    _report(error)
    try:
        print(end="", flush=True)
    except OSError:  # the error that is shown came first
        from launch.output import discard

        discard()
    return error.exit_code


def _report(error: LyceumError) -> None:
    from launch.failure import leave_failure

    if leave_failure(error):
        return  # The process that started this rank reports it, once for all ranks.
    rank = os.environ.get("RANK", "0")
    who = "" if rank == "0" else f" (rank {rank})"
    what = "stopped" if isinstance(error, StopRequested) else "error"
    print(f"lyceum: {what}{who}: {shown(error)}", file=sys.stderr)
