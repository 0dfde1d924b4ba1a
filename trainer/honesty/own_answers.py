"""Which of a model's own texts are learnt from, and what is left of one that was cut short."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainer.corpus.inspect.sentences import sentence_spans
from trainer.questions.question import Question
from trainer.questions.samples import AnswerSample, SampledQuestion
from trainer.questions.verdict import Found
from trainer.questions.verifiers import verify

_WHOLE = re.compile(r"[.!?][\"'\u201d\u2019)\]*]*$")
_CLOSED = re.compile(r"[\"'\u201d\u2019)\]*]*")
_NO_END = re.compile(
    r"(?:(?:^|[\s(\"'.])[A-Za-z]|\b(?:Mr|Mrs|Ms|Dr|St|Mt|Jr|Prof|No|vs|etc|ca|approx)"
    r"|(?:^|\s)\d{1,2})\.$"
)
"""What ends in a full stop and ends no sentence: an initial, an abbreviation, a list's number."""


@dataclass(frozen=True)
class OwnAnswer:
    """A text of the model's own that stands by itself; `shortened`: to whole sentences."""

    text: str
    shortened: bool = False


def whole_sentences(text: str) -> str:
    """The beginning of a text up to the end of its last whole sentence; "" where none is whole."""
    for _, end in reversed(list(sentence_spans(text))):
        closed = _CLOSED.match(text, end)
        kept = text[: closed.end() if closed else end].strip()
        if _WHOLE.search(kept) and not _NO_END.search(kept):
            return kept
    return ""


def own_answers(sampled: SampledQuestion, outcome: Found) -> list[OwnAnswer]:
    """The different texts of this outcome, the most frequent first, of equals the earliest.

    Texts that came to an end of their own go before those that were cut; of the latter what is left
    is verified again, and one that then comes to something else is left out.
    """
    samples = [one for one in sampled.samples if one.outcome == outcome]
    ended = _by_frequency(one.text.strip() for one in samples if one.ended)
    cut = _by_frequency(_shortened(sampled.question, samples, outcome))
    return [
        *(OwnAnswer(text) for text in ended),
        *(OwnAnswer(text, shortened=True) for text in cut if text not in ended),
    ]


def _shortened(
    question: Question, samples: Iterable[AnswerSample], outcome: Found
) -> Iterator[str]:
    for sample in samples:
        text = "" if sample.ended else whole_sentences(sample.text)
        if text and verify(question, text).outcome == outcome:
            yield text


def _by_frequency(texts: Iterable[str]) -> list[str]:
    # A Counter keeps the order of first sight, and sorting is stable.
    return [text for text, _ in Counter(filter(None, texts)).most_common()]
