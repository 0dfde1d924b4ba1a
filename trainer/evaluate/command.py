"""`lyceum evaluate`: a checkpoint's figures, by built-in suites and by lm-eval's tasks."""

import os
from collections.abc import Sequence
from pathlib import Path

from trainer.errors import RecipeError, StopRequested
from trainer.evaluate.evaluation import KEPT, Evaluation
from trainer.evaluate.evaluation_report import shown_progress
from trainer.evaluate.harness.names import check_tasks
from trainer.evaluate.opened import open_model
from trainer.evaluate.options import NO_OPTIONS, EvaluationOptions
from trainer.evaluate.suites import MODULES
from trainer.files import is_stdout
from trainer.recipe.gates import parse_gate
from trainer.recovery import StopSignals


def evaluate_command(
    checkpoint: Path,
    suites: Sequence[str],
    json_file: Path | None,
    options: EvaluationOptions = NO_OPTIONS,
) -> None:
    """Print the figures of the named suites ([]: all built-in ones), and write them as JSON.

    `json_file`: "-" prints the JSON in place of the table.
    Collective over all started ranks. A suite that fails loses no other: its error is raised once
    all else is measured, shown and written. Raises RecipeError for an unknown suite, a suite that
    has nothing to ask here, or a bad gate; CheckpointError or DataError for a checkpoint or corpus
    that is missing or damaged; GateError where a gate is not passed; StopRequested where a signal
    asked for it.
    """
    if json_file is not None and not is_stdout(json_file):
        _check_json(json_file)
    gates = [parse_gate(text, "--gate") for text in options.gates]
    if options.base is not None and all(gate.within is None for gate in gates):
        raise RecipeError(
            f"--base {options.base}: is what gates with `within` compare with, and no --gate has"
            " it; leave it out"
        )
    named = list(dict.fromkeys(suites))
    check_tasks(named, options.tasks_path, tuple(MODULES))
    _refuse_unread(named, options)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        with open_model(checkpoint, world, options.overrides) as model:
            evaluation = Evaluation(model, options, gates, json_file)
            wanted = named or list(MODULES)
            with evaluation.only_writer(wanted):
                evaluation.prepare(wanted, required=bool(named))
                with shown_progress(model.layout.reports) as advance, StopSignals() as signals:
                    evaluation.measure(advance, signals)
                evaluation.finish(json_file)
    except KeyboardInterrupt:
        if world > 1:
            raise  # the other ranks cannot be asked; whoever started them says so
        raise StopRequested(f"{checkpoint}: SIGINT; {KEPT}") from None


def _refuse_unread(names: Sequence[str], options: EvaluationOptions) -> None:
    """Raise RecipeError for options of lm-eval's tasks where only built-in suites are asked."""
    if any(name not in MODULES for name in names):
        return
    given = {
        "--shots": options.shots is not None,
        "--chat": options.chat,
        "--system": options.system is not None,
    }
    if unread := [option for option, there in given.items() if there]:
        raise RecipeError(
            f"{unread[0]}: is for tasks of lm-eval, and only built-in suites are asked, which have"
            " prompts of their own; leave it out, or name a task (--suite)"
        )


def _check_json(file: Path) -> None:
    """Raise RecipeError, before minutes of measuring, where the figures cannot be written."""
    if not file.parent.is_dir():
        raise RecipeError(f"--json {file}: there is no folder {file.parent}; make it")
    if file.is_dir():
        raise RecipeError(f"--json {file}: is a folder; name a file in it")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise RecipeError(f"--json {file}: cannot be written; name another file")
