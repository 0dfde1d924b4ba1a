"""lm-eval's own runs over the tasks of the tests, which ours are held against."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hugging_face.models import make_model
from trainer.data.tokenizer import load_tokenizer
from trainer.evaluate.examination import SuiteResult, examine, prepare
from trainer.evaluate.harness import TaskSettings, task_suite
from trainer.evaluate.respondent import Respondent
from trainer.evaluate.suites.suite import SuiteContext
from trainer.hugging_face.config import read_config
from trainer.parallel.agreement import Ranks

TASKS = Path(__file__).parent / "tasks"
SINGLE = [
    *("ours_last_word", "ours_delimited", "ours_texts", "ours_sums", "ours_writing"),
    "ours_letters",
]
GROUP = "ours_group"
NAMES = [*SINGLE, GROUP]
POSITIONS = 96
"""Tokens that the model reads: some contexts are longer, and some texts several windows long."""


def make_folder(folder: Path) -> Path:
    """A random Llama as a Hugging Face folder, without a near tie among the likeliest tokens."""
    make_model(folder, "llama", {"max_position_embeddings": POSITIONS})
    template = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    prompt = "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    (folder / "chat_template.jinja").write_text(template + prompt)
    return folder


@contextmanager
def among_tasks() -> Any:
    """In the tasks' folder: lm-eval reads data files relative to the working directory."""
    before = Path.cwd()
    os.chdir(TASKS)
    try:
        yield
    finally:
        os.chdir(before)


def by_lm_eval(model: Any, names: list[str], **options: Any) -> dict[str, Any]:
    """The results of lm-eval's own `simple_evaluate`, samples included."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    with among_tasks():
        manager = TaskManager(include_path=str(TASKS), include_defaults=False)
        found: dict[str, Any] = simple_evaluate(
            model, tasks=names, task_manager=manager, bootstrap_iters=0, **options
        )
    return found


def hugging_face_model(folder: Path) -> Any:
    """lm-eval's own model, which takes one request at a time."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", batch_size=1, dtype="float32")


def measured(
    name: str,
    folder: Path,
    respondent: Respondent,
    records: Path | None = None,
    limit: int | None = None,
    tasks: Path = TASKS,
    **settings: Any,
) -> SuiteResult:
    """What a suite of lm-eval's finds, by the runner of all suites."""
    suite = task_suite(
        name, load_tokenizer(folder), read_config(folder)[0].model, TaskSettings(tasks, **settings)
    )
    ranks = Ranks()
    prepared = prepare(suite, SuiteContext(respondent, limit=limit), ranks)
    return examine(prepared, respondent, ranks, records)


def figures_of(results: dict[str, Any], suite: str) -> dict[str, float]:
    """The figures of lm-eval's results, by the names that a suite of ours gives them."""
    members = results["group_subtasks"].get(suite, [])
    found = {}
    for name in [suite, *members]:
        for key, value in results["results"][name].items():
            metric, comma, kind = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                short = metric if kind == "none" else key
                found[short if name == suite else f"{name}/{short}"] = value
    return found
