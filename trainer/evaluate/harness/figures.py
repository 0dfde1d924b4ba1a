"""Figures of lm-eval's tasks and groups from the scores of their items, by its own aggregations."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

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
    kinds: dict[str, FigureKind] = {}
    scored = {name: _scores_of(name, records) for name in loaded.tasks}
    for name, group in loaded.groups.items():
        prefix = "" if name == suite else f"{name}/"
        for metric, kind in _group_kinds(group, loaded.tasks, scored).items():
            kinds[prefix + _short(metric)] = kind
    for name, task in loaded.tasks.items():
        prefix = "" if name == suite else f"{name}/"
        for metric, values in scored[name].items():
            kinds[prefix + _short(metric)] = _task_kind(name, task, metric, values)
    return kinds


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
    numeric = _over_numbers(label)
    if numeric is not None and all(_is_numbers(value) for value in values.values()):

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
    group: "Group",
    tasks: "Mapping[str, Task]",
    scored: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, FigureKind]:
    """The metrics that a group says it has over its tasks, by METRIC,FILTER."""
    kinds: dict[str, FigureKind] = {}
    members = [task.task_name for task in group.get_all_tasks()]
    for wanted in group.aggregate_metric_list or ():
        found = [key for name in members for key in scored.get(name, ())]
        filters = wanted.filter_list
        if filters is None:
            own = (key for key in found if key.partition(",")[0] == wanted.metric)
            filters = sorted({key.partition(",")[2] for key in own})
        for one in [filters] if isinstance(filters, str) else filters:
            metric = f"{wanted.metric},{one}"
            having = [name for name in members if metric in scored.get(name, {})]
            if having:
                kinds[metric] = _group_kind(
                    group,
                    metric,
                    {name: (tasks[name], scored[name][metric]) for name in having},
                    by_size=bool(wanted.weight_by_size),
                )
    return kinds


def _group_kind(
    group: "Group",
    metric: str,
    members: "Mapping[str, tuple[Task, Mapping[str, Any]]]",
    by_size: bool,
) -> FigureKind:
    """A mean over tasks: each weighs as much as its items (`by_size`), or as any other."""
    names = list(members)
    ids = {name: list(members[name][1]) for name in names}
    positions = {
        item: (float(task), float(number))
        for task, name in enumerate(names)
        for number, item in enumerate(ids[name])
    }

    def reduce(rows: np.ndarray) -> float:
        values, sizes = [], []
        for number, name in enumerate(names):
            task, scores = members[name]
            own = [scores[ids[name][int(place)]] for place in rows[rows[:, 0] == number, 1]]
            if own:
                values.append(_reduced(_aggregation(task, metric)[0], own))
                sizes.append(len(own) if by_size else 1)
        return float(np.average(values, weights=sizes))

    better = {_better(task, metric) for task, _ in members.values()}
    weighed = "by their items" if by_size else "each alike"
    return FigureKind(
        f"the mean of {metric} over {len(names)} tasks of {group.name}, {weighed}",
        lambda record: positions.get(record["id"]),
        reduce,
        better.pop() if len(better) == 1 else None,
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


def _over_numbers(label: str) -> Callable[[np.ndarray], float] | None:
    """The aggregations that numpy computes, over rows of numbers."""
    return {
        "mean": mean,
        "perplexity": lambda rows: float(np.exp(-rows[:, 0].mean())),
        "weighted_perplexity": lambda rows: float(np.exp(-rows[:, 0].sum() / rows[:, 1].sum())),
        "bits_per_byte": lambda rows: float(-rows[:, 0].sum() / rows[:, 1].sum() / math.log(2)),
    }.get(label)


def _is_numbers(value: Any) -> bool:
    return all(isinstance(one, bool | int | float) for one in _numbers(value))


def _numbers(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
