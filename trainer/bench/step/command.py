"""`lyceum bench step`: predict each part of a step, measure it, and name the largest gaps."""

import shlex
from dataclasses import replace
from pathlib import Path

import torch

from kernels.bench.run import describe_run
from trainer.bench.step.measured import measure_step
from trainer.bench.step.rates import ceilings_of, dtype_of, measure_shapes, peak_of, raised
from trainer.bench.step.table import document, markdown, plot, rows_of, summary
from trainer.errors import RecipeError
from trainer.files import write_output
from trainer.plan.floors import step_parts
from trainer.plan.part import Prediction
from trainer.plan.share import share_of
from trainer.recipe import Recipe


def step_command(
    recipe: Recipe,
    *,
    on_cpu: bool = False,
    predict_only: bool = False,
    json_file: Path | None = None,
    markdown_file: Path | None = None,
    plot_file: Path | None = None,
    trace_file: Path | None = None,
    words: tuple[str, ...] = (),
) -> None:
    """Print the table of the recipe's step on one rank; `words`: the recipe's, for the record.

    Measured on a GPU where there is one, on the CPU where asked, else not at all; a layout of
    several ranks is predicted only. Raises RecipeError for what cannot be asked here, and what
    training raises.
    """
    device = None if predict_only else _device(recipe, on_cpu)
    _check_files(json_file, markdown_file, plot_file, trace_file, device)
    flags = [*(["--on", "cpu"] if on_cpu else []), *(["--predict-only"] if predict_only else [])]
    run = describe_run(shlex.join(["lyceum", "bench", "step", *words, *flags]))
    if device is not None:
        recipe = recipe.replaced({"device": device.type})
        recipe.validate_world(1, device.type)
    prediction = predict(recipe, device)
    measured, alone = None, {}
    if device is not None:
        alone = measure_shapes(prediction.parts, device, dtype_of(recipe))
        ceilings = raised(prediction.ceilings, prediction.parts, alone)
        prediction = replace(prediction, ceilings=ceilings)
    ceilings = prediction.ceilings
    print(f"{run}\nceilings: {ceilings}")
    if device is not None:
        measured = measure_step(recipe, device, prediction.parts, trace_file)
    rows = rows_of(prediction, measured, alone)
    text = "\n".join([markdown(rows), "", *summary(prediction, measured, rows)])
    if measured is None:
        text += "\n" + _why_not_measured(predict_only)
    print(f"\n{text}")
    write_output(json_file, document(run, prediction, measured, rows))
    write_output(markdown_file, f"{run}\n\nCeilings: {ceilings.source}.\n\n{text}\n")
    if plot_file is not None and not plot(rows, plot_file, str(run)):
        print("no plot: matplotlib is not installed")


def predict(recipe: Recipe, device: torch.device | None) -> Prediction:
    """The floors of one rank of one replica: of pipeline stages the last, which has the loss.

    Without a device under the ceilings of an H200. Raises RecipeError for what is not predicted.
    """
    ranks = recipe.parallel.model_ranks
    recipe.validate_world(ranks, "cuda" if device is None else device.type)
    share = share_of(recipe, ranks, recipe.parallel.pipeline - 1)
    return Prediction(
        parts=step_parts(share),
        ceilings=ceilings_of(recipe, device),
        tokens=share.tokens * share.micro_batches,
        peak=peak_of(device),
    )


def _device(recipe: Recipe, on_cpu: bool) -> torch.device | None:
    if on_cpu or recipe.device == "cpu":
        if recipe.device == "cuda":
            raise RecipeError("--on cpu: the recipe says device: cuda; leave one of them out")
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None


def _check_files(
    json_file: Path | None,
    markdown_file: Path | None,
    plot_file: Path | None,
    trace_file: Path | None,
    device: torch.device | None,
) -> None:
    """Before anything is measured: else figures have nowhere to go."""
    if trace_file is not None and device is None:
        raise RecipeError("--trace: no step runs here; use a GPU, or --on cpu")
    for path in (json_file, markdown_file, plot_file, trace_file):
        if path is None:
            continue
        try:
            path.open("a").close()
        except OSError as error:
            raise RecipeError(f"{path}: cannot be written: {error.strerror}") from error


def _why_not_measured(predict_only: bool) -> str:
    if predict_only:
        return "Nothing was measured: --predict-only."
    return "Nothing was measured: PyTorch finds no GPU here (--on cpu measures the CPU)."
