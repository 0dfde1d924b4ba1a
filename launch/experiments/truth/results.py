"""What the experiment found: figures.json, table.md and trade_off.svg, from the models' records."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.experiments.over_seeds import (
    SeededFigure,
    SeedRecords,
    difference_over_seeds,
    figure_over_seeds,
    value_of_seed,
)
from launch.experiments.truth.chain import STEPS, Blend
from launch.experiments.truth.goals import ACCURACY, GOALS, HALLUCINATION, Goal
from launch.experiments.truth.measuring import HELD_OUT, SUITES
from trainer.evaluate.suites.suite import FigureKind, ItemRecord, SuiteContext
from trainer.files import write_whole
from trainer.report.plots.canvas import svg_file
from trainer.report.plots.trade_off import TradeOffPoint, trade_off

Records = Mapping[str, Sequence[ItemRecord]]
"""A model's records by suite."""
BESIDE = (
    ("held-out", "wrong"),
    ("held-out", "hallucination/old_kinds"),
    ("held-out", "hallucination/new_kinds"),
    ("held-out", "hallucination/unanswerable"),
    ("held-out", "accuracy/old_kinds"),
    ("held-out", "accuracy/new_kinds"),
    ("held-out", "over_refusal/old_kinds"),
    ("held-out", "over_refusal/new_kinds"),
    ("many-instructions", "refused"),
)
"""Suites and figures that have no goal."""
OF_THE_BASE = {
    "right": "over_refusal/base_is_right",
    "wrong": "over_refusal/base_is_wrong",
}
"""What is declined of the knowns by what the base answers to them, and what that is called."""


UNDEFINED = SeededFigure(math.nan, math.nan, math.nan, 0, 0)
"""A figure that no item gives."""


@dataclass(frozen=True)
class ModelRecords:
    """A label with the records of its models, one a seed; `blend`: where it is no step."""

    label: str
    seeds: Sequence[Records]
    blend: Blend | None = None


def write_results(
    base: ModelRecords, models: Sequence[ModelRecords], into: Path, notes: Mapping[str, Any]
) -> None:
    """Write all files; `notes`: what they say of hardware, versions, command and times."""
    found = {one.label: _figures(one, None if one is base else base) for one in (base, *models)}
    content = {"notes": dict(notes), "models": found}
    text = json.dumps(_defined(content), indent=1, allow_nan=False)
    write_whole(into / "figures.json", text + "\n", durable=False)
    write_whole(into / "table.md", _table(found, notes), durable=False)
    write_whole(into / "trade_off.svg", _drawn(base, models, found), durable=False)


def _defined(content: Any) -> Any:
    """The same with null for each figure that is not defined, as JSON has no NaN."""
    if isinstance(content, dict):
        return {key: _defined(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_defined(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _figures(model: ModelRecords, base: ModelRecords | None) -> dict[str, Any]:
    """Each figure by suite/name: its value and, for one with a goal, what the goal asks of it."""
    found: dict[str, Any] = {}
    context = SuiteContext(respondent=None)  # type: ignore[arg-type]  # read by items alone
    for goal in GOALS:
        if goal.suite not in model.seeds[0]:
            continue
        kind = SUITES[goal.suite][0].figures(context)[goal.figure]
        of_seeds = _of_seeds(model, goal.suite)
        entry: dict[str, Any] = {"value": asdict(_figure(model, goal.suite, kind))}
        entry["by_seed"] = [value_of_seed(kind, records) for records in of_seeds]
        if base is not None:
            asked = _asked(model, base, goal, kind)
            entry |= {"goal": goal.words, "asked": asdict(asked), "verdict": goal.verdict(asked)}
        found[f"{goal.suite}/{goal.figure}"] = entry
    for suite, name in BESIDE:
        kind = SUITES[suite][0].figures(context)[name]
        if any(kind.row(one) is not None for one in model.seeds[0].get(suite, ())):
            found[f"{suite}/{name}"] = {"value": asdict(_figure(model, suite, kind))}
    return found if base is None else found | _declined_by_base(model, base)


def _declined_by_base(model: ModelRecords, base: ModelRecords) -> dict[str, Any]:
    """What a model declines of the knowns, by what the base says to them."""
    found = {}
    for outcome, name in OF_THE_BASE.items():
        if asked := _knowns(base, outcome):
            value = _figure(model, HELD_OUT.name, _declined_of(asked))
            found[f"{HELD_OUT.name}/{name}"] = {"value": asdict(value)}
    return found


def _knowns(base: ModelRecords, outcome: str) -> set[str]:
    """The questions that have an answer, and of which the base's answer is found to be that."""
    records = base.seeds[0][HELD_OUT.name]
    return {one["id"] for one in records if one["answerable"] and one["outcome"] == outcome}


def _declined_of(asked: set[str]) -> FigureKind:
    def row(record: ItemRecord) -> tuple[float] | None:
        return (float(record["outcome"] == "declined"),) if record["id"] in asked else None

    return FigureKind("knowns that this model declines, of those that the base answers so", row)


def _of_seeds(model: ModelRecords, suite: str) -> SeedRecords:
    return [{one["id"]: one for one in records[suite]} for records in model.seeds]


def _figure(model: ModelRecords, suite: str, kind: FigureKind) -> SeededFigure:
    return figure_over_seeds(kind, _of_seeds(model, suite)) or UNDEFINED


def _asked(model: ModelRecords, base: ModelRecords, goal: Goal, kind: FigureKind) -> SeededFigure:
    """What the goal is about: the figure, or what it is beside the base's."""
    if goal.compare is None:
        return _figure(model, goal.suite, kind)
    before, after = _of_seeds(base, goal.suite), _of_seeds(model, goal.suite)
    before = [*before] * len(after)  # one base for all seeds
    found = difference_over_seeds(kind, before, after, compare=goal.compare)
    return found or UNDEFINED


def _table(found: Mapping[str, Any], notes: Mapping[str, Any]) -> str:
    names = [f"{goal.suite}/{goal.figure}" for goal in GOALS]
    heads = ["", *(f"{goal.figure.replace('_', ' ')} ({goal.words})" for goal in GOALS)]
    lines = ["# Truth and its price: SmolLM2 before and after each step of a cure", ""]
    lines += [*(f"{key}: {value}  " for key, value in notes.items()), ""]
    lines += [_row(heads), _row(["---"] * len(heads))]
    for label, figures in found.items():
        lines.append(_row([label, *(_cell(figures.get(name)) for name in names)]))
    lines += ["", "Beside the goals:", ""]
    rest = [name for name in list(found.values())[-1] if name not in names]
    shown = [name.removeprefix("held-out/").replace("_", " ") for name in rest]
    lines += [_row(["", *shown]), _row(["---"] * (len(rest) + 1))]
    for label, figures in found.items():
        lines.append(_row([label, *(_cell(figures.get(name)) for name in rest)]))
    lines += ["", "Seed by seed:", ""]
    shown = [goal.figure.replace("_", " ") for goal in GOALS]
    lines += [_row(["", *shown]), _row(["---"] * len(heads))]
    for label, figures in found.items():
        lines.append(_row([label, *(_cell_by_seed(figures.get(name)) for name in names)]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(entry: Mapping[str, Any] | None) -> str:
    """A figure with its interval, and what became of its goal."""
    if entry is None:
        return "not measured"
    value = entry["value"]
    if not math.isfinite(value["value"]):
        return "not defined"
    told = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{told} **{entry['verdict']}**" if "verdict" in entry else told


def _cell_by_seed(entry: Mapping[str, Any] | None) -> str:
    """A figure of each seed, in the order of the seeds."""
    if entry is None:
        return "not measured"
    values = entry["by_seed"]
    return ", ".join(f"{one:.3f}" if math.isfinite(one) else "not defined" for one in values)


def _drawn(base: ModelRecords, models: Sequence[ModelRecords], found: Mapping[str, Any]) -> str:
    """The trade-off: the steps, and lines from the base over blends to the steps."""
    points = [_point(one, found) for one in (base, *models) if one.blend is None]
    for name, label in STEPS.items():
        if on_line := [one for one in models if one.blend and one.blend.step == name]:
            (step,) = (one for one in models if one.label == label)
            line = f"blends of {label.removeprefix('+ ')}"
            points += [_point(one, found, line) for one in (base, *on_line, step)]
    first = found[base.label]
    most = first[f"held-out/{HALLUCINATION.figure}"]["value"]["value"] * HALLUCINATION.at_most
    least = first[f"held-out/{ACCURACY.figure}"]["value"]["value"] + ACCURACY.at_least
    return svg_file(trade_off(points, goal=(most, max(least, 0.0))))


def _point(model: ModelRecords, found: Mapping[str, Any], line: str = "") -> TradeOffPoint:
    def interval(figure: str) -> tuple[float, float, float]:
        value = found[model.label].get(f"held-out/{figure}", {}).get("value")
        return (value["value"], value["low"], value["high"]) if value else (math.nan,) * 3

    label = model.blend.short_label if model.blend else model.label
    return TradeOffPoint(label, interval("hallucination"), interval("accuracy"), line)
