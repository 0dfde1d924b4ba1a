"""The parts of a suite: items that ask, a judgement an item, figures over what was judged."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.errors import SuiteUnavailable as SuiteUnavailable
from trainer.evaluate.respondent import Query, Respondent, Response

if TYPE_CHECKING:
    from trainer.evaluate.corpora import SearchableText
    from trainer.evaluate.intervals import Figure
    from trainer.evaluate.text_pieces import HeldOutText

ItemRecord = dict[str, Any]
"""What is recorded of an item, as JSON: what came, and the numbers that figures read."""


@dataclass(frozen=True)
class Item:
    """One question of a suite.

    `id`: stable over runs and machines; `queries`: what it asks the model; `shown`: of the record,
    as JSON: question, right answers, group; `passages`: texts by which a corpus would hold it.
    """

    id: str
    queries: tuple[Query, ...]
    shown: Mapping[str, Any]
    passages: tuple[str, ...] = ()


def mean(rows: np.ndarray) -> float:
    """The mean of the first column of [items, columns]."""
    return float(rows[:, 0].mean())


def ratio(rows: np.ndarray) -> float:
    """The sum of the first column of [items, columns] over the sum of the second."""
    return float(rows[:, 0].sum() / rows[:, 1].sum())


@dataclass(frozen=True)
class FigureKind:
    """How a figure follows from records.

    `row`: an item's numbers, None where it does not count here; `reduce`: fp64 [items, numbers] ->
    the figure, NaN where it is not defined (resampled for the interval, so a pure function of the
    rows in any order); `better`: which way is good, None where neither is; `means`: one line;
    `cluster`: what an item has in common with others, as a template, so that they are no draws of
    their own: they are resampled together (None: each for itself); `stratum`: what parts the items
    into several draws, so that every resample has as many of each as there are (None: one draw);
    `resamples`: how many the interval takes, where `reduce` is too slow for the usual number.
    """

    means: str
    row: Callable[[ItemRecord], Sequence[float] | None]
    reduce: Callable[[np.ndarray], float] = mean
    better: Literal["higher", "lower"] | None = None
    cluster: Callable[[ItemRecord], Hashable] | None = None
    stratum: Callable[[ItemRecord], Hashable] | None = None
    resamples: int | None = None


@dataclass(frozen=True)
class SuiteContext:
    """What the items of a suite are made from.

    `respondent`: only what it is, not what it answers; `limit`: items at most (None: the suite's
    own number), spread over the suite's kinds; `own`: the run's own corpora, or those named
    instead, None where there are none; `held_out`: the pieces of text that perplexity is over:
    `ValidationPieces` of a run's own corpora, `WindowsOfText` of text that is named; `trained_on`:
    corpora whose training split is searched for every item's passages.
    """

    respondent: Respondent
    seed: int = 0
    limit: int | None = None
    own: "SearchableText | None" = None
    held_out: "HeldOutText | None" = None
    trained_on: "SearchableText | None" = None


@dataclass(frozen=True)
class Suite:
    """A suite: see the docstring of its module for what it measures, and its source.

    `measures`, `leaves_out`, `source`: a sentence each, shown by `lyceum evaluate --list`; `rules`:
    raised whenever items or judgements change, or how a model is asked or writes its answers, so
    that older records are not gone on with; `items`, called on the first rank alone, raises
    SuiteUnavailable; `judge`: an item's record from its answers, none of them Unanswered, in the
    order of its queries (its `shown` stands beside it); `figures`: by name, in the order of the
    table; the first is the suite's headline; `figures_by_text`: patterns of the names of those that
    come and go with what is read or searched; `found_figures`: further ones, whose names only the
    records tell; `remarks`: a line each, from the figures by name, on what forbids to read them as
    they seem.
    """

    name: str
    measures: str
    leaves_out: str
    source: str
    rules: int
    items: Callable[[SuiteContext], Sequence[Item]]
    judge: Callable[[Item, Sequence[Response]], ItemRecord]
    figures: Callable[[SuiteContext], Mapping[str, FigureKind]]
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else decides its items, as JSON, beside `rules`, seed and limit."""
    found_figures: Callable[[Sequence[ItemRecord]], Mapping[str, FigureKind]] = lambda records: {}
    counts_in_corpora: bool = False
    """Whether records say of the run's own corpora what `items` does not ask, as occurrences."""
    figures_by_text: Sequence[str] = ()
    remarks: "Callable[[Mapping[str, Figure]], Sequence[str]]" = lambda figures: ()
