"""The documents of lm-eval's tasks as items: asked by its prompts, judged by its scores."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.tokenizer import GENERATION_FILE, Tokenizer
from trainer.errors import LyceumError, SuiteUnavailable
from trainer.evaluate.harness.asking import AskedRequest, Unaskable
from trainer.evaluate.harness.documents import (
    as_json,
    digest,
    likeliest,
    passages_of,
    right_answer,
    settled,
    shown_of,
)
from trainer.evaluate.harness.figures import kinds_of
from trainer.evaluate.harness.loading import LoadedTasks, load_tasks, refuse_senses, seeded
from trainer.evaluate.harness.names import shelf_of
from trainer.evaluate.records import FAILED
from trainer.evaluate.respondent import ContinuationQuery, Response
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, SuiteContext
from trainer.hugging_face.generation import unread_settings
from trainer.hugging_face.rope import written_positions
from trainer.recipe.model import ModelSection

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import Task

    from trainer.evaluate.harness.model import HarnessModel


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskSettings:
    """How tasks of lm-eval are asked.

    `tasks_path`: a folder of task files of one's own; `shots`: examples before each question (None:
    the task's own number); `chat`: whether prompts pass through the model's chat template;
    `system`: the system prompt before them; `trained`: tokens of the longest text that the model
    was trained on, by which lm-eval's own model cuts (None: those of the longest that it reads).
    """

    tasks_path: Path | None = None
    shots: int | None = None
    chat: bool = False
    system: str | None = None
    trained: int | None = None


@dataclass(frozen=True)
class TaskQuestion:
    """One document of a task: its requests, each with what it asks for every repetition.

    `failure`: why it cannot be asked; `target`: the right answer, as JSON.
    """

    task: "Task"
    document: Any
    requests: "tuple[Instance, ...]"
    asked: tuple[tuple[AskedRequest, ...], ...]
    target: Any
    failure: str | None = None


class TaskQuestions:
    """The questions of a suite, once they are loaded, by the ids of their items."""

    def __init__(
        self, name: str, tokenizer: Tokenizer, model: ModelSection, settings: TaskSettings
    ) -> None:
        self._name, self._settings = name, settings
        self._tokenizer, self._model_section = tokenizer, model
        self._found: dict[str, TaskQuestion] = {}
        self._loaded = LoadedTasks({}, {})
        self._model: HarnessModel | None = None

    def items(self, context: SuiteContext) -> list[Item]:
        """One item a document, in the tasks' order; on the first rank alone."""
        from trainer.evaluate.harness.model import HarnessModel
        from trainer.evaluate.harness.tokenizer import transformers_tokenizer

        longest = context.respondent.longest
        tokenizer = transformers_tokenizer(self._tokenizer, self._model_section, longest)
        positions = written_positions(
            self._model_section.rope_scaling, self._settings.trained or longest
        )
        self._model = model = HarnessModel(context.respondent, tokenizer, context.seed, positions)
        with seeded(context.seed):
            shelf = shelf_of(self._settings.tasks_path)
            shelf.require(self._name)
            self._loaded = load_tasks(self._name, shelf, self._settings.shots, context.seed)
            items = []
            for name, task in self._loaded.tasks.items():
                refuse_senses(name, task)
                items += self._of(name, task, model, context)
        if not items:
            raise SuiteUnavailable(f"{self._name}: none of its tasks has an item")
        self._say_what_differs(items, model)
        return items

    def _say_what_differs(self, items: Sequence[Item], model: "HarnessModel") -> None:
        """What is cut or left out of prompts, and of how lm-eval's own model would write."""
        writes = any(isinstance(query, ContinuationQuery) for one in items for query in one.queries)
        if writes and (unread := unread_settings(self._tokenizer.files.get(GENERATION_FILE, b""))):
            _log.warning(
                "%s: %s of the model's generation_config.json is not applied, as lm-eval's own"
                " model would: its scores may differ",
                *(self._name, unread),
            )
        cut = [item.shown["cut"] for item in items if item.shown["cut"]]
        if cut:
            _log.warning(
                "%s: %d of %d items are longer than the %d tokens that lm-eval's own model would"
                " read: of each, up to %d tokens are left out at the beginning",
                *(self._name, len(cut), len(items), model.max_length, max(cut)),
            )
        if model.without_system:
            _log.warning(
                "%s: the chat template takes no system prompt: it is left out of %d prompts",
                *(self._name, model.without_system),
            )

    def _of(
        self, name: str, task: "Task", model: "HarnessModel", context: SuiteContext
    ) -> list[Item]:
        rules = digest(settled(task))
        copies: Counter[str] = Counter()
        items = []
        for number, document in task.doc_iterator(limit=context.limit):
            question = self._question(name, task, model, number, document, copies)
            queries = tuple(q for asked in question.asked for one in asked for q in one.queries)
            shown = shown_of(name, number, task, document, question.target)
            shown["cut"] = max((one.cut for asked in question.asked for one in asked), default=0)
            if question.failure is not None:
                shown[FAILED] = question.failure
            content = digest([rules, repr(queries), shown.get("document")])
            item = Item(
                f"{name}/{number}/{content}",
                queries,
                shown,
                passages_of(task, question.document, question.target),
            )
            self._found[item.id] = question
            items.append(item)
        return items

    def _question(
        self,
        name: str,
        task: "Task",
        model: "HarnessModel",
        number: int,
        document: Any,
        copies: Counter[str],
    ) -> TaskQuestion:
        """A document's requests as lm-eval makes them; a document that has none says why."""
        target: Any = None
        try:
            requests = self._requests(name, task, model, number, document)
            target = right_answer(task, document)
            asked = []
            for request in requests:
                key = repr((request.request_type, request.args))
                asked.append(
                    tuple(
                        model.asked(request, copies[key] + copy)
                        for copy in range(request.repeats or 1)
                    )
                )
                copies[key] += request.repeats or 1
        except LyceumError:
            raise
        except Unaskable as failure:
            return TaskQuestion(task, document, (), (), target, str(failure))
        except Exception as error:  # a task's own code, over whatever its data holds
            reason = f"cannot be asked: {type(error).__name__}: {error}"
            return TaskQuestion(task, document, (), (), target, reason)
        return TaskQuestion(task, document, requests, tuple(asked), target)

    def _requests(
        self, name: str, task: "Task", model: "HarnessModel", number: int, document: Any
    ) -> "tuple[Instance, ...]":
        """As lm-eval's `Task.build_all_requests` makes them, which loses all where one fails."""
        chat, template = self._settings.chat, model.apply_chat_template
        context = task.fewshot_context(
            document,
            num_fewshot=task.get_config("num_fewshot") or 0,
            system_instruction=self._settings.system,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            chat_template=template if chat else None,
            gen_prefix=task.doc_to_prefix(document),
        )
        made = task.construct_requests(
            doc=document,
            ctx=context,
            metadata=(name, number, task.get_config("repeats") or 1),
            apply_chat_template=chat,
            chat_template=template if chat else None,
        )
        return tuple(sorted(made if isinstance(made, list) else [made], key=lambda one: one.idx))

    def judge(self, item: Item, answers: Sequence[Response]) -> ItemRecord:
        """What lm-eval's filters leave of the answers, and its scores, by METRIC,FILTER."""
        question = self._found[item.id]
        if question.failure is not None:
            return {}  # what is shown of it says why
        assert self._model is not None
        left = list(answers)
        for request, asked in zip(question.requests, question.asked, strict=True):
            request.resps, request.filtered_resps = [], {}
            for one in asked:
                own, left = left[: len(one.queries)], left[len(one.queries) :]
                try:
                    request.resps.append(self._model.answer_to(request, own))
                except Unaskable as reason:
                    return {FAILED: str(reason)}
        return _judged(question)

    def kinds(self, records: Sequence[ItemRecord]) -> Mapping[str, FigureKind]:
        """The figures of all tasks and groups that the records hold."""
        return kinds_of(self._name, self._loaded, records)


def _judged(question: TaskQuestion) -> ItemRecord:
    task, requests = question.task, question.requests
    task._instances = list(requests)
    task.apply_filters()
    scores: dict[str, Any] = {}
    for name in requests[0].filtered_resps:
        found = task.process_results(
            question.document, [request.filtered_resps[name] for request in requests]
        )
        scores |= {f"{metric},{name}": as_json(value) for metric, value in found.items()}
    first = next((value for value in scores.values() if isinstance(value, int | float)), None)
    return {"answer": likeliest(requests), "score": first, "scores": scores}
