"""What is told of a task's document: question, right answer, what would stand in a corpus."""

import functools
import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.evaluate.harness.asking import Unaskable

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import Task

SHORTEST_PASSAGE = 30
"""Letters of the shortest text that is searched in a corpus: shorter ones stand anywhere."""
LONGEST_PASSAGE = 300
"""Letters by which a long text is searched."""
ROLLING = "loglikelihood_rolling"


def right_answer(task: "Task", document: Any) -> Any:
    """A document's answer: a text, or the texts or numbers that a task takes for one.

    Raises Unaskable where it has none, or one that is none of its choices: lm-eval takes what is
    missing for the text "None", and a number out of range for a wrong answer of the model. A task
    that scores by code of its own need not have any.
    """
    target = task.doc_to_target(document)
    if task.OUTPUT_TYPE == ROLLING or _scores_itself(task):
        return target
    if target is None:
        raise Unaskable("no answer: the document has none")
    choices = _choices(task, document)
    if (
        choices is None
        or task.OUTPUT_TYPE != "multiple_choice"
        or not isinstance(target, int | str)
    ):
        return target
    if getattr(task, "multiple_input", 0):
        return target
    inside = target in choices if isinstance(target, str) else 0 <= target < len(choices)
    if not inside:
        raise Unaskable(f"no answer: {target!r} is none of its {len(choices)} choices")
    return target if isinstance(target, str) else choices[target]


def _scores_itself(task: "Task") -> bool:
    """Whether a task's own code turns answers into scores, rather than its file's metrics."""
    from lm_eval.api.task import ConfigurableTask

    return not isinstance(task, ConfigurableTask) or callable(task.get_config("process_results"))


def _choices(task: "Task", document: Any) -> list[str] | None:
    if task.get_config("doc_to_choice") is None or not hasattr(task, "doc_to_choice"):
        return None
    found: list[str] = task.doc_to_choice(document)
    return found


def shown_of(name: str, number: int, task: "Task", document: Any, target: Any) -> dict[str, Any]:
    """The part of an item's record that is known before it is asked."""
    return {
        "task": name,
        "number": number,
        "question": _question(task, document),
        "target": as_json(target, strict=False),
        "document": as_json(document, strict=False),
    }


def _question(task: "Task", document: Any) -> str | None:
    if task.OUTPUT_TYPE == ROLLING:
        return None
    try:
        text = task.doc_to_text(document)
    except Exception:  # what cannot be asked says so by itself
        return None
    return text if isinstance(text, str) else None


def passages_of(task: "Task", document: Any, target: Any) -> tuple[str, ...]:
    """The texts by which a corpus would hold a document: its question, or its whole text."""
    text = target if task.OUTPUT_TYPE == ROLLING else _question(task, document)
    if task.OUTPUT_TYPE == "loglikelihood" and isinstance(text, str) and isinstance(target, str):
        text += target
    if not isinstance(text, str) or len(text.strip()) < SHORTEST_PASSAGE:
        return ()
    return (text.strip()[:LONGEST_PASSAGE],)


def likeliest(requests: "Sequence[Instance]") -> Any:
    """What the model answered: the text that it wrote, or the likeliest of several answers."""
    first = requests[0]
    if first.request_type == "generate_until":
        texts = [text for request in requests for text in request.resps]
        return texts[0] if len(texts) == 1 else texts
    if first.request_type == ROLLING:
        return {"nats": first.resps[0]}
    answers = [
        {"text": one.args[-1], "nats": one.resps[0][0], "greedy": one.resps[0][1]}
        for one in requests
    ]
    best = max(answers, key=lambda one: -math.inf if math.isnan(one["nats"]) else one["nats"])
    return best if len(answers) == 1 else {**best, "of": [one["nats"] for one in answers]}


def settled(task: "Task") -> dict[str, Any]:
    """What decides how a task is asked and scored, beside its documents."""
    config = dict(task.dump_config())
    config.pop("metadata", None)  # where its file is
    config.pop("dataset_kwargs", None)  # and its data
    config.pop("dataset_path", None)
    read: dict[str, Any] = _by_source(config)
    return read


def _by_source(value: Any) -> Any:
    """A task's settings with its functions as their text, the same whenever they are read.

    lm-eval leaves those that it copies for the examples as they are: their text is an address.
    """
    if isinstance(value, dict):
        return {key: _by_source(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_by_source(one) for one in value]
    if isinstance(value, functools.partial):
        return _by_source([value.func, value.args, value.keywords])
    if not callable(value):
        return value
    try:
        return inspect.getsource(value)
    except (TypeError, OSError):  # an instance, or of no file
        return getattr(value, "__qualname__", type(value).__qualname__)


def digest(content: Any) -> str:
    """Eight letters that change with a JSON content."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def as_json(value: Any, strict: bool = True) -> Any:
    """A value as JSON: numpy's numbers and arrays as Python's, tuples and sets as lists.

    What has no such form raises TypeError, or, where not `strict`, becomes its text.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): as_json(one, strict) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one, strict) for one in value]
    if isinstance(value, set | frozenset):  # in an order that is the same in every process
        return [as_json(one, strict) for one in sorted(value, key=repr)]
    if hasattr(value, "tolist"):  # numpy's
        return as_json(value.tolist(), strict)
    if strict:
        raise TypeError(f"a score of the type {type(value).__name__} cannot be recorded")
    return str(value)
