"""Our model as one of lm-eval's: prompts become ids as in its own Hugging Face model (HFLM)."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import jinja2
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from trainer.conversations.growth import TemplateBound
from trainer.errors import DataError, RecipeError
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.harness.asking import (
    MOST_NEW_TOKENS,
    AskedRequest,
    Unaskable,
    WritingOptions,
    likelihood_of,
    likelihood_request,
    seed_of,
    text_request,
    written_in,
)
from trainer.evaluate.harness.tokenizer import transformers_tokenizer
from trainer.evaluate.respondent import Query, Respondent, Response
from trainer.hugging_face.rope import written_positions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainer.evaluate.opened import OpenedModel

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class HarnessModel(TemplateLM):
    """An lm-eval `LM` over a Respondent; collective, so that every rank runs lm-eval alike.

    `tokenizer`: transformers' one, by `tokenizer.transformers_tokenizer`; `seed`: of texts that are
    drawn; `positions`: max_position_embeddings of its exported folder, by which HFLM cuts (None:
    not known), though a rotation that grows with the text may reach further. Its answers are
    HFLM's: the same ids, contexts cut from the left, windows over long texts, texts up to the first
    of `until`.
    """

    def __init__(
        self,
        respondent: Respondent,
        tokenizer: "PreTrainedTokenizerBase",
        seed: int = 0,
        positions: int | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer: Any = tokenizer
        self.max_length = min(respondent.longest, positions or respondent.longest)
        self._respondent = respondent
        self._seed = seed
        # Answers of one question follow each other: its context is read once.
        self._encode = lru_cache(maxsize=64)(self._encoded)
        self.without_system = 0
        """Prompts of which the chat template refused the system's part, which was left out."""

    @classmethod
    def of(cls, model: "OpenedModel", seed: int = 0) -> "HarnessModel":
        """The model of an opened checkpoint, for `lm_eval.simple_evaluate` on all of its ranks.

        Raises RecipeError for a chat template that cannot be used.
        """
        tokenizer = transformers_tokenizer(model.tokenizer, model.recipe.model, model.longest)
        positions = written_positions(
            model.recipe.model.rope_scaling, model.trained or model.longest
        )
        return cls(ModelRespondent.of(model), tokenizer, seed, positions)

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The id behind which a text stands that has no context."""
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else int(start)

    @property
    def max_gen_toks(self) -> int:
        """New tokens where a task does not say how many."""
        return MOST_NEW_TOKENS

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval tells apart its stored prompts by."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """The ids of a text: behind the tokenizer's own start, unless the text begins with it."""
        return list(self._encode(string, add_special_tokens))

    def _encoded(self, text: str, add_special_tokens: bool | None) -> tuple[int, ...]:
        special: dict[str, bool] = {}
        if add_special_tokens is not None:
            special = {"add_special_tokens": add_special_tokens}
        elif has_bos_prefix(text, self.tokenizer.decode(self.prefix_token_id)):
            special = {"add_special_tokens": False}
        return tuple(self.tokenizer.encode(text, **special))

    def asked_likelihood(self, context: str, continuation: str) -> AskedRequest:
        """A `loglikelihood` request as queries; raises Unaskable."""
        if context:
            before, ids = self._encode_pair(context, continuation)
            return likelihood_request(before, ids, self.max_length)
        ids = self.tok_encode(continuation, add_special_tokens=False)
        before = [self.prefix_token_id]
        if ids[:1] == before:  # the text begins with it: nothing is put before
            before, ids = ids[:1], ids[1:]
        return likelihood_request(before, ids, self.max_length)

    def asked_rolling(self, text: str) -> AskedRequest:
        """A `loglikelihood_rolling` request as queries, one a window; raises Unaskable."""
        windows = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        queries: tuple[Query, ...] = ()
        for context, ids in map(make_disjoint_window, windows):
            queries += likelihood_request(context, ids, self.max_length).queries
        return AskedRequest(queries)

    def asked_text(self, context: str, options: dict[str, Any], copy: int = 0) -> AskedRequest:
        """A `generate_until` request as a query; raises Unaskable.

        `copy`: how many requests like it stand before it, which are drawn with other seeds.
        """
        special = {}
        if has_bos_prefix(context, self.tokenizer.bos_token):
            special = {"add_special_tokens": False}
        ids = self.tokenizer(context, **special)["input_ids"]
        read = WritingOptions.of(options, self._end)
        return text_request(ids, read, self.max_length, seed_of(self._seed, copy))

    def text_of(self, options: dict[str, Any], answers: Sequence[Response]) -> str:
        """What was written for a `generate_until` request, up to the first of its ends."""
        tokens = list(written_in(answers).tokens)
        until = list(WritingOptions.of(options, self._end).until)
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return str(postprocess_generated_text(text, until, None))

    def asked(self, request: Instance, copy: int = 0) -> AskedRequest:
        """Any request as queries; raises Unaskable."""
        arguments = request.args
        if request.request_type == "loglikelihood":
            return self.asked_likelihood(arguments[0], arguments[1])
        if request.request_type == "loglikelihood_rolling":
            return self.asked_rolling(arguments[0])
        return self.asked_text(arguments[0], arguments[1], copy)

    def answer_to(self, request: Instance, answers: Sequence[Response]) -> Any:
        """What lm-eval wants in answer to a request; raises Unaskable where there is no answer."""
        if request.request_type == "loglikelihood":
            return likelihood_of(answers)
        if request.request_type == "loglikelihood_rolling":
            return likelihood_of(answers)[0]
        return self.text_of(request.args[1], answers)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether greedy) of each (context, continuation).

        Raises DataError for one that cannot be asked, as do the other two.
        """
        return self._answers(requests, tuple)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-probability of each text, in nats."""
        return self._answers(requests, float)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What is written behind each context, up to the first of its ends."""
        return self._answers(requests, str)

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        raise AssertionError("loglikelihood asks by itself")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the prompt that the model was taught to answer.

        Raises RecipeError where the tokenizer has no chat template, and jinja2's TemplateError
        where that refuses the conversation even without its system prompt.
        """
        if self.tokenizer.chat_template is None:
            raise RecipeError("the model's tokenizer has no chat template; leave --chat out")
        try:
            return self._rendered(chat_history, add_generation_prompt)
        except jinja2.exceptions.TemplateError:
            rest = [message for message in chat_history if message["role"] != "system"]
            text = self._rendered(rest, add_generation_prompt)
            self.without_system += 1
            return text

    def _rendered(self, messages: list[dict[str, str]], prompts: bool) -> str:
        self._refuse_endless(messages, prompts)
        text = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=prompts,
            continue_final_message=not prompts,
        )
        return str(text)

    def _refuse_endless(self, messages: list[dict[str, str]], prompts: bool) -> None:
        """Raise RecipeError for a template that has no end; transformers knows no bounds."""
        from trainer.conversations.bounded import bounded_template

        template = self.tokenizer.chat_template
        beside = {"tools": None, "documents": None, **self.tokenizer.special_tokens_map}
        try:
            bounded_template(template).render(
                messages=messages, add_generation_prompt=prompts, **beside
            )
        except TemplateBound as error:
            raise RecipeError(
                f"the model's chat template is refused: {error}; leave --chat out"
            ) from None
        except Exception:  # what else fails, transformers' own rendering says below
            return

    @property
    def _end(self) -> str:
        return str(self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False))

    def _answers(self, requests: list[Instance], kind: Callable[[Any], _T]) -> list[_T]:
        copies: Counter[str] = Counter()
        asked: list[AskedRequest] = []
        for request in requests:
            key = json.dumps([request.request_type, *request.args], default=str)
            try:
                asked.append(self.asked(request, copies[key]))
            except Unaskable as reason:
                raise DataError(_named(request, reason)) from None
            copies[key] += 1
        if cut := [one.cut for one in asked if one.cut]:
            _log.warning(
                "%d of %d requests are longer than the %d tokens that lm-eval's own model would"
                " read: up to %d tokens are left out at their beginning",
                *(len(cut), len(asked), self.max_length, max(cut)),
            )
        answers = ask([one.queries for one in asked], self._respondent)
        try:
            found = [self.answer_to(*pair) for pair in zip(requests, answers, strict=True)]
        except Unaskable as reason:
            raise DataError(f"lm-eval: a request has no answer: {reason}") from None
        return [kind(one) for one in found]


def ask(asked: Sequence[Sequence[Query]], respondent: Respondent) -> list[list[Response]]:
    """The answers to each request's queries, all asked at once; collective."""
    owners = [(number, n) for number, queries in enumerate(asked) for n in range(len(queries))]
    found: dict[tuple[int, int], Response] = {}
    for index, answer in respondent.responses([asked[number][n] for number, n in owners]):
        found[owners[index]] = answer
    return [[found[number, n] for n in range(len(queries))] for number, queries in enumerate(asked)]


def _named(request: Instance, reason: Exception) -> str:
    return f"lm-eval: item {request.doc_id} of {request.task_name}: {reason}"
