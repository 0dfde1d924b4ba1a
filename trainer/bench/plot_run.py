"""Draws the loss curves of runs: python -m trainer.bench.plot_run PICTURE RUN..."""

import sys
from pathlib import Path

from trainer.bench.display import figure_of, save
from trainer.observe import read_metrics


def plot_runs(picture: Path, runs: list[Path]) -> None:
    """Write `picture` (.svg or .png): training and validation loss over tokens, a run a colour."""
    figure = figure_of(8, 4)
    axes = figure.subplots()
    for run in runs:
        records = [record for record in read_metrics(run) if record["loss"] is not None]
        tokens = [record["tokens"] for record in records]
        (line,) = axes.plot(
            tokens, _smooth([record["loss"] for record in records]), lw=1, label=f"{run.name}"
        )
        measured = [record for record in records if "eval/loss" in record]
        axes.plot(
            [record["tokens"] for record in measured],
            [record["eval/loss"] for record in measured],
            "o",
            color=line.get_color(),
            label=f"{run.name}, validation",
        )
    axes.set(xlabel="tokens read", ylabel="loss, nats a token")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, picture)


def _smooth(losses: list[float], weight: float = 0.95) -> list[float]:
    """Exponential moving average, its start corrected."""
    smooth, average = [], 0.0
    for step, loss in enumerate(losses, start=1):
        average = weight * average + (1 - weight) * loss
        smooth.append(average / (1 - weight**step))
    return smooth


if __name__ == "__main__":
    plot_runs(Path(sys.argv[1]), [Path(run) for run in sys.argv[2:]])
