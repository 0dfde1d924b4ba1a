"""What suites found, model by model: figures with intervals, gates, and the curves of truth."""

from collections.abc import Sequence

from trainer.report.page.blocks import Drawing, Folded, PageBlock, PageSection, Prose
from trainer.report.page.table import Cell, DataTable
from trainer.report.plots.bars import IntervalRow, interval_bars
from trainer.report.plots.lines import line_plot
from trainer.report.reading.examinations import verdicts_of
from trainer.report.reading.run_record import RunRecord
from trainer.report.telling.curves import series_of
from trainer.report.telling.measured import MeasuredModel, suites_of
from trainer.report.telling.truth import truth_drawings
from trainer.report.telling.wording import figure_cell

HEADLINES = {
    "known-unknown": {
        "hallucination": "unknowns that are answered",
        "accuracy": "knowns answered rightly",
        "over_refusal": "knowns that are not answered",
        "aurc": "mean risk over all coverages",
    },
    "calibration": {
        "accuracy": "right of four choices",
        "ece": "calibration error, of four choices",
        "free_accuracy": "right of free answers",
        "free_ece": "calibration error, of free answers",
    },
    "occurrence": {
        "accuracy": "facts whose object is the likeliest",
        "hallucination": "facts completed otherwise, with confidence",
        "miscalibration": "distance from calibration",
    },
    "perplexity": {"bits_per_byte": "bits that a byte of text takes"},
    "groundedness": {
        "follows_passage": "altered facts given as the passage has them",
        "refuses_unsaid": "unsaid things of which it is said",
        "refuses_said": "said things that are refused",
    },
    "bias": {
        "gap": "one-sidedness: 0 fair, 1 always one-sided",
        "accuracy_disambiguated": "context questions right",
    },
    "memorisation": {"extraction": "sequences of the training text recited"},
    "instructions": {
        "followed": "instructions followed",
        "followed_loose": "instructions followed, loosely",
    },
}
"""Of each built-in suite the figures that are drawn, and what they mean in a few words."""
_OF_OTHERS = 4
_WAYS = {"higher": "more is better", "lower": "less is better", None: ""}


def evaluation_section(models: Sequence[MeasuredModel]) -> PageSection:
    """All that was measured, of models in order."""
    if not models:
        why = (
            "No suite was measured. Name some in evaluate.suites, or write the figures of `lyceum"
            " evaluate RUN --json RUN/evaluations/NAME.json` beside the run: this page reads them."
        )
        return PageSection("Measured", [Prose(why)])
    blocks: list[PageBlock] = []
    if gates := gates_table(models):
        blocks.append(gates)
    for suite in suites_of(models):
        blocks += _suite(suite, models)
    blocks += truth_drawings(models)
    blocks.append(Folded("All figures", [figures_table(models)]))
    return PageSection("Measured: figures with their 95% intervals", blocks, _note(models))


def _suite(suite: str, models: Sequence[MeasuredModel]) -> list[PageBlock]:
    headlines = headlines_of(suite, models)
    rows = [
        IntervalRow(model.label, _group(suite, name, meaning, models), *values)
        for name, meaning in headlines.items()
        for model in models
        if (values := _values(model, f"{suite}/{name}")) is not None
    ]
    if not rows:
        return []
    found: list[PageBlock] = [Drawing(interval_bars(rows, suite, "figure"))]
    remarks = [
        f"{model.label}: {remark}"
        for model in models
        if suite in model.examined.suites
        for remark in _remarks(model, suite)
    ]
    return found + [Prose(f"{suite}: {'; '.join(remarks)}.")] * bool(remarks)


def _remarks(model: MeasuredModel, suite: str) -> list[str]:
    result = model.examined.suites[suite]
    return [*result.remarks, *([result.failures] if result.failures else [])]


def headlines_of(suite: str, models: Sequence[MeasuredModel]) -> dict[str, str]:
    """The figures of a suite that are drawn, with their meaning; of a foreign one the first."""
    if suite in HEADLINES:
        return HEADLINES[suite]
    names = [name for model in models for name in _own(model, suite)]
    return dict.fromkeys(list(dict.fromkeys(names))[:_OF_OTHERS], "")


def _own(model: MeasuredModel, suite: str) -> list[str]:
    result = model.examined.suites.get(suite)
    return [] if result is None else list(result.figures)


def _group(suite: str, name: str, meaning: str, models: Sequence[MeasuredModel]) -> str:
    figures = [one for model in models if (one := model.figure(f"{suite}/{name}")) is not None]
    way = _WAYS[figures[0].better] if figures else ""
    words = ", ".join(filter(None, (meaning, way)))
    return f"{name} ({words})" if words else name


def _values(model: MeasuredModel, name: str) -> tuple[float, float, float] | None:
    figure = model.figure(name)
    return None if figure is None else (figure.value, figure.low, figure.high)


def figures_table(models: Sequence[MeasuredModel]) -> DataTable:
    """Every figure of every model, with the items that it is over."""
    names = dict.fromkeys(name for model in models for name in model.examined.figures)
    rows: list[list[Cell]] = []
    for name in names:
        figures = [model.figure(name) for model in models]
        known = next(one for one in figures if one is not None)
        rows.append([name, *map(figure_cell, figures), known.items, _WAYS[known.better] or None])
    columns = ("figure", *(model.label for model in models), "items", "which way")
    return DataTable(columns, rows, "Value [95% interval], by resampling items")


def gates_table(models: Sequence[MeasuredModel]) -> DataTable | None:
    """Whether the gates of runs, and those of evaluations by command, were passed."""
    rows: list[tuple[str, str, str, str]] = []
    for model in models:
        judged = list(model.examined.gates)
        if model.record is not None and not model.examined.named:
            judged += [
                (one.gate.text, one.passed, one.line)
                for one in verdicts_of(model.record, model.examined)
            ]
        rows += [
            (model.label, text, "passed" if passed else "failed", line)
            for text, passed, line in judged
        ]
    if not rows:
        return None
    failed = sum(row[2] == "failed" for row in rows)
    caption = f"Gates: {len(rows) - failed} of {len(rows)} passed"
    return DataTable(("model", "gate", "verdict", "figure"), rows, caption)


def _note(models: Sequence[MeasuredModel]) -> str | None:
    """Where models were not asked the same."""
    differing = []
    for suite in suites_of(models):
        asked = {
            model.examined.asked.get(suite) for model in models if suite in model.examined.suites
        }
        if len(asked) > 1:
            differing.append(suite)
    if not differing:
        return None
    return (
        f"Not all models were asked the same items of {', '.join(differing)}: their figures compare"
        " only as far as the intervals say."
    )


def progress_drawings(record: RunRecord) -> list[Drawing]:
    """How the figures of suites moved while a run learned, where they were taken several times."""
    steps, found = record.steps, []
    if steps is None:
        return []
    for suite, names in HEADLINES.items():
        lines = [
            series_of(name, values)
            for name in names
            if (values := steps.series.get(f"eval/{suite}/{name}")) is not None and values.count > 1
        ]
        if lines:
            title = f"{suite}, while {record.label} learned"
            found.append(Drawing(line_plot(lines, title, "step", "figure")))
    return found
