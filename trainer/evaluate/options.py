"""What `lyceum evaluate` may be told beside the checkpoint and the suites."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvaluationOptions:
    """What `lyceum evaluate` may be told beside checkpoint and suites.

    `overrides`: `parallel.*` keys of the layout, and `precision`; `corpora`, `texts`: read and
    searched in place of the run's own corpora; `records`: the folder of the item-level records;
    `tasks_path`: a folder of lm-eval task files; `shots`: examples before each of its questions
    (None: the task's own number); `chat`, `system`: whether its prompts pass through the chat
    template, and the system prompt before them; `limit`: items a suite at most; `gates`: as the
    recipe's `evaluate.gates`; `base`: the JSON of an evaluation of the model that gates compare
    with (None: the run's own base); `plots`: a folder for pictures.
    """

    overrides: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    records: Path | None = None
    tasks_path: Path | None = None
    shots: int | None = None
    chat: bool = False
    system: str | None = None
    limit: int | None = None
    seed: int = 0
    gates: tuple[str, ...] = ()
    base: Path | None = None
    plots: Path | None = None


NO_OPTIONS = EvaluationOptions()
