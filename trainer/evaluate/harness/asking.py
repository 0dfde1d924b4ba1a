"""lm-eval's requests as queries of ids, cut where they are too long as its own model cuts them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trainer.errors import RecipeError
from trainer.evaluate.respondent import (
    ContinuationQuery,
    Likelihood,
    Query,
    Response,
    TokensQuery,
    Unanswered,
    WrittenAnswer,
)
from trainer.evaluate.sampling import check_sampling

_Answer = TypeVar("_Answer", Likelihood, WrittenAnswer)

MOST_NEW_TOKENS = 256
"""New tokens where a task does not say how many: HFLM's `max_gen_toks`."""
SAMPLED_TOP_K = 50
"""The top-k of a task that samples and names none: that of transformers' `generate`."""
_NEUTRAL: Mapping[str, Sequence[Any]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1, None),
    "length_penalty": (1, None),
    "no_repeat_ngram_size": (0, None),
    "min_length": (0, None),
    "min_new_tokens": (0, None),
    "early_stopping": (True, False),
    "use_cache": (True, False),
}
"""Options of `generate` that change nothing with these values."""


class Unaskable(Exception):
    """A request that the model cannot be asked; says why, as Unanswered does."""


@dataclass(frozen=True)
class AskedRequest:
    """What a request asks the model; `cut`: tokens left out at the beginning, for lack of room."""

    queries: tuple[Query, ...]
    cut: int = 0


def likelihood_request(
    context: Sequence[int], continuation: Sequence[int], longest: int
) -> AskedRequest:
    """How likely a continuation is; the model reads all of it but its last token.

    Raises Unaskable for an empty continuation, and one longer than the model.
    """
    if not continuation:
        raise Unaskable("empty answer: it adds no token to what stands before it")
    if len(continuation) > longest:
        raise Unaskable(f"too long: an answer of {len(continuation):,} tokens of {longest:,}")
    if not context:
        raise Unaskable("empty context: no token stands before the answer")
    tokens = (*context, *continuation)[-(longest + 1) :]
    query = TokensQuery(tokens, given=len(tokens) - len(continuation))
    return AskedRequest((query,), len(context) + len(continuation) - len(tokens))


def likelihood_of(answers: Sequence[Response]) -> tuple[float, bool]:
    """(the log-probability in nats, whether greedy decoding would write it), as lm-eval wants it.

    Raises Unaskable where one of the answers is none.
    """
    parts = [_answered(answer, Likelihood) for answer in answers]
    return sum(part.total for part in parts), all(part.greedy for part in parts)


@dataclass(frozen=True)
class WritingOptions:
    """How a text is to be written: a task's `generation_kwargs`, read as HFLM reads them.

    `until`: the texts that end it, the end of a text among them; `most`: of its tokens; `whole`: of
    the tokens of context and text together, None where it is not limited.
    """

    until: tuple[str, ...]
    most: int
    whole: int | None
    temperature: float
    top_k: int
    top_p: float

    @classmethod
    def of(cls, options: Mapping[str, Any], end: str) -> "WritingOptions":
        """The options of a request; `end`: the text of the token that ends a text.

        Raises Unaskable for one that is not supported, and that would change the text, and for one
        that is impossible.
        """
        from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

        read = dict(normalize_gen_kwargs(dict(options), MOST_NEW_TOKENS))
        until = tuple(handle_stop_sequences(list(read.pop("until")), eos=end))
        sampled = bool(read.pop("do_sample"))
        temperature = float(read.pop("temperature", 1.0 if sampled else 0.0))
        most, whole = int(read.pop("max_gen_toks")), read.pop("max_length", None)
        top_k, top_p = read.pop("top_k", None), read.pop("top_p", None)
        for name, value in read.items():
            if value not in _NEUTRAL.get(name, (None,)):
                raise Unaskable(f"unsupported generation option: {name}={value!r}")
        found = cls(
            until,
            most,
            None if whole is None else int(whole),
            temperature if sampled else 0.0,
            SAMPLED_TOP_K if top_k is None else int(top_k),
            1.0 if top_p is None else float(top_p),
        )
        if unread := [text for text in until if not isinstance(text, str)]:
            raise Unaskable(f"bad generation option: until has {unread[0]!r}, which is no text")
        if sampled:
            try:
                check_sampling(temperature, found.top_k, found.top_p)
            except RecipeError as error:
                raise Unaskable(f"bad generation option: {error}") from None
        return found


def text_request(
    context: Sequence[int], options: WritingOptions, longest: int, seed: int
) -> AskedRequest:
    """A text behind a context, of which the end remains where both do not fit.

    Raises Unaskable where the text leaves no room for a context, and where that is empty.
    """
    room = longest - options.most
    if options.most <= 0:
        raise Unaskable(f"no text is asked for: of {options.most} new tokens")
    if room <= 0:
        raise Unaskable(f"too long: a text of {options.most:,} new tokens of {longest:,}")
    if not context:
        raise Unaskable("empty context: no token stands before the text")
    prompt = tuple(context[-room:])
    most = options.most if options.whole is None else options.whole - len(prompt)
    if most <= 0:
        raise Unaskable(f"too long: max_length is {options.whole}, of which the context takes all")
    if "" in options.until:  # which stands in every text: HFLM's ends with its first token
        most = 1
    stop = tuple(text for text in options.until if text)
    drawn = (options.top_k, options.top_p) if options.temperature else (0, 1.0)
    query = ContinuationQuery(prompt, most, stop, options.temperature, seed, *drawn)
    return AskedRequest((query,), len(context) - len(prompt))


def written_in(answers: Sequence[Response]) -> WrittenAnswer:
    """The one text that was written; raises Unaskable where there is none."""
    (answer,) = answers
    return _answered(answer, WrittenAnswer)


def seed_of(seed: int, copy: int) -> int:
    """What a text is drawn with; `copy`: how many requests like its own stand before it."""
    if not copy:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {copy}".encode()).digest()[:7], "little")


def _answered(answer: Response, kind: type[_Answer]) -> _Answer:
    if isinstance(answer, Unanswered):
        raise Unaskable(answer.reason)
    assert isinstance(answer, kind)
    return answer
