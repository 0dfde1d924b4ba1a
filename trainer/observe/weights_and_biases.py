"""Weights & Biases, where it is installed and asked for."""

from typing import Any

from trainer.errors import RecipeError
from trainer.observe.callback import Callback, RunStart
from trainer.observe.tensorboard import numbers


class WeightsAndBiases(Callback):
    """Sends the records to a project of Weights & Biases; a resumed run goes on in its own curve.

    Raises RecipeError where wandb is not installed.
    """

    def __init__(self, project: str) -> None:
        try:
            import wandb
        except ImportError:
            raise RecipeError(
                f"observe.wandb={project}: wandb is not installed; pip install wandb, or leave "
                "observe.wandb out"
            ) from None
        self._wandb: Any = wandb
        self._project = project
        self._session: Any = None

    def on_start(self, run: RunStart) -> None:
        """Start or go on; the run directory's name is the run's name."""
        name = run.folder.resolve().name
        self._session = self._wandb.init(
            project=self._project,
            name=name,
            id=name,
            resume="allow",
            dir=str(run.folder),
            config=run.recipe.model_dump(mode="json"),
        )

    def on_step(self, record: dict[str, Any]) -> None:
        """The numbers of the record."""
        self._session.log(numbers(record), step=record["step"])

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Finish the session; a run that did not end by itself is marked so."""
        if self._session is not None:
            self._session.finish(exit_code=0 if state == "done" else exit_code or 1)
