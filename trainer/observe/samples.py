"""RUN/samples.jsonl: the texts that a run wrote while it trained, a JSON object each."""

import json
import logging
from pathlib import Path

from trainer.errors import TrainingError
from trainer.observe.callback import Callback, RunStart
from trainer.observe.metrics import truncate_records
from trainer.recovery.boundary import NO_ROOM

_log = logging.getLogger(__name__)

SAMPLES = "samples.jsonl"


class SampleWriter(Callback):
    """Appends each sample to RUN/samples.jsonl: `step`, `prompt`, `text` (the continuation alone).

    The file appears with the first sample. On resume the samples after the checkpoint are removed,
    as the metrics are.
    """

    def __init__(self) -> None:
        self._path = Path(SAMPLES)

    def on_start(self, run: RunStart) -> None:
        """Remove the samples of steps to come."""
        self._path = run.folder / SAMPLES
        try:
            truncate_records(self._path, run.first_step - 1)
        except OSError as error:
            raise TrainingError(f"{self._path} cannot be written: {error.strerror}") from None

    def on_sample(self, step: int, prompt: str, text: str) -> None:
        """Append the sample; where there is no room it is left out, which is said."""
        line = json.dumps({"step": step, "prompt": prompt, "text": text}, ensure_ascii=False)
        try:
            with self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(line + "\n")
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise TrainingError(f"{self._path} cannot be written: {error.strerror}") from None
            _log.warning("%s: %s: a sample of step %d is lost", self._path, error.strerror, step)
