"""Figures of lm-eval's tasks and groups from the scores of their items, by its own aggregations."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.evaluate.intervals import RESAMPLES
from trainer.evaluate.suites.suite import FigureKind, ItemRecord, mean

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task

    from trainer.evaluate.harness.loading import LoadedTasks

_log = logging.getLogger(__name__)
SLOW = ("bleu", "chrf", "chrf++", "ter")
"""Aggregations over whole corpora of text, for which lm-eval too takes fewer resamples."""
SLOW_RESAMPLES = 100

Aggregation = Callable[[list[Any]], float]


def kinds_of(
    suite: str, loaded: "LoadedTasks", records: Sequence[ItemRecord]
) -> dict[str, FigureKind]:
    """The figures of each task and group, named METRIC[,FILTER] or TASK/METRIC[,FILTER].

    A figure of the task or group that the suite is named after has no prefix.
    """
    scored = {name: _scores_of(name, records) for name in loaded.tasks}
    sizes = {name: max(map(len, found.values()), default=0) for name, found in scored.items()}
    of_tasks = {
        name: {key: _task_kind(name, task, key, values) for key, values in scored[name].items()}
        for name, task in loaded.tasks.items()
    }
    of_groups = {
        name: _group_kinds(group, of_tasks, sizes) for name, group in loaded.groups.items()
    }
    return {
        ("" if name == suite else f"{name}/") + _short(metric): kind
        for name, kinds in [*of_groups.items(), *of_tasks.items()]
        for metric, kind in kinds.items()
    }


def _scores_of(task: str, records: Sequence[ItemRecord]) -> dict[str, dict[str, Any]]:
    """The scores of a task's items by METRIC,FILTER and the item's id."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["task"] == task:
            for metric, value in record["scores"].items():
                found.setdefault(metric, {})[record["id"]] = value
    return found


def _short(metric: str) -> str:
    """METRIC,FILTER without the filter of a task that has none of its own."""
    return metric.removesuffix(",none")


def _task_kind(name: str, task: "Task", metric: str, values: Mapping[str, Any]) -> FigureKind:
    aggregation, label = _aggregation(task, metric)
    means = f"lm-eval's {label} of {metric} over the items of {name}"
    better = _better(task, metric)
    numeric, width = _over_numbers(label)
    if numeric is not None and all(_is_numbers(value, width) for value in values.values()):

        def row(record: ItemRecord) -> Sequence[float] | None:
            value = values.get(record["id"]) if record["task"] == name else None
            return None if value is None else _numbers(value)

        return FigureKind(means, row, numeric, better)
    _say_where_undefined(name, metric, aggregation, list(values.values()))
    ids = list(values)
    positions = {item: number for number, item in enumerate(ids)}

    def place_of(record: ItemRecord) -> Sequence[float] | None:
        found = positions.get(record["id"]) if record["task"] == name else None
        return None if found is None else [found]

    def reduce(rows: np.ndarray) -> float:
        return _reduced(aggregation, [values[ids[int(number)]] for number in rows[:, 0]])

    resamples = SLOW_RESAMPLES if label in SLOW else None
    return FigureKind(means, place_of, reduce, better, resamples=resamples)


def _group_kinds(
    group: "Group", of_tasks: Mapping[str, Mapping[str, FigureKind]], sizes: Mapping[str, int]
) -> dict[str, FigureKind]:
    """The metrics that a group says it has over its tasks, by METRIC,FILTER.

    `of_tasks`: each task's own; `sizes`: how many items each task counts for where tasks weigh by
    their size, whatever the metric.
    """
    kinds: dict[str, FigureKind] = {}
    members = [task.task_name for task in group.get_all_tasks()]
    for wanted in group.aggregate_metric_list or ():
        found = [key for name in members for key in of_tasks.get(name, ())]
        filters = wanted.filter_list
        if filters is None:
            own = (key for key in found if key.partition(",")[0] == wanted.metric)
            filters = sorted({key.partition(",")[2] for key in own})
        for one in [filters] if isinstance(filters, str) else filters:
            metric = f"{wanted.metric},{one}"
            # A task that stands in several subgroups counts as often.
            having = Counter(name for name in members if metric in of_tasks.get(name, {}))
            if having:
                by_size = bool(wanted.weight_by_size)
                weighed = "by their items" if by_size else "each alike"
                kinds[metric] = _group_kind(
                    f"the mean of {metric} over {having.total()} tasks of {group.name}, {weighed}",
                    {name: of_tasks[name][metric] for name in having},
                    [times * (sizes[name] if by_size else 1) for name, times in having.items()],
                )
    return kinds


def _group_kind(
    means: str, members: Mapping[str, FigureKind], weights: Sequence[int]
) -> FigureKind:
    """The weighted mean of its tasks' figures, each resampled over its own items."""
    number_of = {name: number for number, name in enumerate(members)}

    def row(record: ItemRecord) -> Sequence[float] | None:
        kind = members.get(record["task"])
        own = None if kind is None else kind.row(record)
        # No task's figure reads more than two numbers of an item.
        return None if own is None else [number_of[record["task"]], *own, 0.0][:3]

    def reduce(rows: np.ndarray) -> float:
        parts = (rows[rows[:, 0] == number, 1:] for number in range(len(members)))
        values = [kind.reduce(part) for kind, part in zip(members.values(), parts, strict=True)]
        return float(np.average(values, weights=weights))

    def reduce_means(rows: np.ndarray) -> float:
        # In one pass over the rows: a group may have 57 tasks, and is resampled a thousand times.
        numbers = rows[:, 0].astype(np.int64)
        sums = np.bincount(numbers, rows[:, 1], len(members))
        values = sums / np.bincount(numbers, minlength=len(members))
        return float(np.average(values, weights=weights))

    better = {kind.better for kind in members.values()}
    return FigureKind(
        means,
        row,
        reduce_means if all(kind.reduce is mean for kind in members.values()) else reduce,
        better.pop() if len(better) == 1 else None,
        stratum=lambda record: record["task"],
        resamples=min(kind.resamples or RESAMPLES for kind in members.values()),
    )


def _aggregation(task: "Task", metric: str) -> tuple[Aggregation, str]:
    """The function that makes one figure of a metric's scores, and its name."""
    known: dict[str, Aggregation] = task.aggregation()
    name = metric.partition(",")[0]
    if name in known:
        found = known[name]
    elif len(set(known.values())) == 1:  # a metric that gives several, as pass@1 and pass@10
        found = next(iter(known.values()))
    else:
        from lm_eval.api.registry import get_aggregation

        found = get_aggregation("mean")
    return found, getattr(found, "__name__", "aggregation")


def _better(task: "Task", metric: str) -> Literal["higher", "lower"] | None:
    higher = task.higher_is_better().get(metric.partition(",")[0])
    return None if higher is None else "higher" if higher else "lower"


def _say_where_undefined(
    name: str, metric: str, aggregation: Aggregation, values: list[Any]
) -> None:
    """A figure without a value says why; of a resample that is no loss."""
    try:
        aggregation(values)
    except Exception as error:  # a task's own code
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _log.warning(
            "%s: %s is not defined over its %d items: %s", name, _short(metric), len(values), reason
        )


def _reduced(aggregation: Aggregation, values: list[Any]) -> float:
    """The figure, NaN where it is not defined over these values."""
    try:
        return float(aggregation(values))
    except Exception as error:  # a task's own code: over a resample it may not be defined
        _log.debug("an aggregation of lm-eval's fails: %s", error)
        return math.nan


def _over_numbers(label: str) -> tuple[Callable[[np.ndarray], float] | None, int]:
    """The aggregation as numpy computes it, None where it does not; and how many numbers a row."""
    known: dict[str, tuple[Callable[[np.ndarray], float], int]] = {
        "mean": (mean, 1),
        "perplexity": (lambda rows: float(np.exp(-rows[:, 0].mean())), 1),
        "weighted_perplexity": (lambda rows: float(np.exp(-_quotient(rows))), 2),
        "bits_per_byte": (lambda rows: float(-_quotient(rows) / math.log(2)), 2),
    }
    return known.get(label, (None, 0))


def _quotient(rows: np.ndarray) -> float:
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def _is_numbers(value: Any, width: int) -> bool:
    if isinstance(value, list) != (width > 1):
        return False
    numbers = _numbers(value)
    return len(numbers) == width and all(isinstance(one, bool | int | float) for one in numbers)


def _numbers(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
