"""Which items of a suite stand in the run's own corpus: what it could have learned by heart."""

from collections.abc import Sequence

from trainer.corpus.rules.word_runs import words_of
from trainer.evaluate.corpora import SearchableText
from trainer.evaluate.suites.suite import Item

RUN_WORDS = 13
"""Of a longer passage, every run of so many words is looked for: the length by which evaluation
sets are kept out of a corpus (Brown et al., 2020, appendix C)."""


def overlapping(items: Sequence[Item], own: SearchableText) -> dict[str, list[str]]:
    """The ids of training documents that hold a passage of each item, by the ids of those items.

    A passage of up to RUN_WORDS words counts only when a document holds the whole of it; of a
    longer one, any RUN_WORDS words in a row count. An item without passages is in no document. One
    search for all items; at most corpora.HELD ids a passage.
    """
    runs = {item.id: [run for text in item.passages for run in _runs(text)] for item in items}
    wanted = sorted({run for found in runs.values() for run in found})
    if not wanted:
        return {}
    holders = dict(zip(wanted, own.holding(wanted), strict=True))
    held = {
        item: list(dict.fromkeys(document for run in found for document in holders[run]))
        for item, found in runs.items()
    }
    return {item: documents for item, documents in held.items() if documents}


def _runs(passage: str) -> list[str]:
    words = words_of(passage)
    if len(words) <= RUN_WORDS:
        return [" ".join(words)] if words else []
    return [
        " ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1)
    ]
