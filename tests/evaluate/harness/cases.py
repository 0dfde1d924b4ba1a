"""lm-eval's own runs over the tasks of the tests, which ours are held against."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.hugging_face.models import make_model
from trainer.data.tokenizer import Tokenizer
from trainer.evaluate.examination import SuiteResult, examine, prepare
from trainer.evaluate.harness import TaskSettings, task_suite
from trainer.evaluate.respondent import Respondent
from trainer.evaluate.suites.suite import SuiteContext
from trainer.parallel.agreement import Ranks
from trainer.recipe.model import ModelSection

TASKS = Path(__file__).parent / "tasks"
SINGLE = [
    *("ours_last_word", "ours_delimited", "ours_texts", "ours_short", "ours_writing"),
    "ours_letters",
]
GROUP = "ours_group"
NAMES = [*SINGLE, GROUP]
LIMIT = 3
"""Documents a task of which the tests ask."""
POSITIONS = 96
"""Tokens that the model reads: some contexts are longer, and some texts several windows long."""


def make_folder(folder: Path) -> Path:
    """A random Llama as a Hugging Face folder, without a near tie among the likeliest tokens."""
    make_model(folder, "llama", {"max_position_embeddings": POSITIONS, "num_hidden_layers": 4})
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


def by_lm_eval(model: Any, names: list[str], limit: int = LIMIT, **options: Any) -> dict[str, Any]:
    """The results of lm-eval's own `simple_evaluate`, samples included."""
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    # What it tells of the machine costs a second, and is no score.
    with among_tasks(), patch.object(evaluator, "add_env_info"):
        manager = TaskManager(include_path=str(TASKS), include_defaults=False)
        found: dict[str, Any] = evaluator.simple_evaluate(
            model, tasks=names, task_manager=manager, bootstrap_iters=0, limit=limit, **options
        )
    return found


def hugging_face_model(folder: Path) -> Any:
    """lm-eval's own model, which takes one request at a time."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", batch_size=1, dtype="float32")


def measured(
    name: str,
    model: tuple[Tokenizer, ModelSection],
    respondent: Respondent,
    records: Path | None = None,
    limit: int | None = LIMIT,
    tasks: Path = TASKS,
    **settings: Any,
) -> SuiteResult:
    """What a suite of lm-eval's finds, by the runner of all suites."""
    suite = task_suite(name, *model, TaskSettings(tasks, **settings))
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


def at_layouts(
    checkpoint: Path, layouts: list[dict[str, Any]], names: list[str]
) -> list[dict[str, dict[str, float]]]:
    """The figures of the suites that this rank is told at each layout in turn."""
    from trainer.checkpoint import resolve_checkpoint
    from trainer.checkpoint.adapted import open_trained, saved_recipe, saved_tokenizer
    from trainer.checkpoint.state import load_weights
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.opened import reading_recipe
    from trainer.model.transformer import build_model
    from trainer.parallel.join import create_layout
    from trainer.parallel.megatron import dissolve_groups
    from trainer.recipe import Recipe

    reader = open_trained(resolve_checkpoint(checkpoint))
    plain = reading_recipe(saved_recipe(reader), 1).model_dump(mode="json")
    tokenizer, found = saved_tokenizer(reader), []
    for parallel in layouts:
        recipe = Recipe.from_keys(
            plain | {"parallel": parallel, "device": "cpu", "batch": {"sequences": 4}}
        )
        layout = create_layout(recipe)
        assert recipe.model.vocab is not None
        chunks = build_model(recipe, recipe.model.vocab, layout)
        load_weights(reader, chunks)
        respondent = ModelRespondent(chunks, recipe, layout, tokenizer, POSITIONS)
        results = {name: measured(name, (tokenizer, recipe.model), respondent) for name in names}
        found.append(
            {
                name: {key: one.value for key, one in result.figures.items()}
                for name, result in results.items()
            }
        )
        dissolve_groups()
    return found
