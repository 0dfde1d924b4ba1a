"""Lines over a run's steps: thin enough for a page, with what happened marked."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.report.page.blocks import Columns, Drawing, PageBlock
from trainer.report.plots.lines import line_plot
from trainer.report.plots.plotted import Series
from trainer.report.reading.run_record import RunRecord
from trainer.report.reading.thinning import ThinnedSeries

MEANS, A_MEAN = 120, 5
"""Most means of a line that goes up and down with every step, and the fewest steps of one."""
_NOISY = 60
"""Steps from which means are drawn beside, or in place of, the steps."""


@dataclass(frozen=True)
class CurvePlot:
    """A plot of several of a run's series: their names in metrics.jsonl, and as a reader's."""

    title: str
    y_label: str
    names: tuple[tuple[str, str], ...]
    log_y: bool = False
    smooth: bool = True
    caption: str = ""


def marks_of(record: RunRecord) -> list[tuple[float, str]]:
    """Skipped steps and resumes, for a line over the run's steps."""
    steps = record.steps
    if steps is None:
        return []
    marks = [(float(step), "skipped") for step in steps.skipped]
    return marks + [
        (float(step), "resumed")
        for step in dict.fromkeys(record.log.resumed_at)
        if step <= steps.last
    ]


def series_of(name: str, values: ThinnedSeries, marks: Sequence[tuple[float, str]] = ()) -> Series:
    """What was kept of a series, as a plot takes it."""
    points = list(values.points())
    return Series(name, [float(x) for x, _ in points], [y for _, y in points], marks)


def means_of(name: str, values: ThinnedSeries, marks: Sequence[tuple[float, str]] = ()) -> Series:
    """A series by its means over equally many steps; itself where it is short."""
    if values.count < _NOISY:
        return series_of(name, values, marks)
    length, means = values.means(min(MEANS, values.count // A_MEAN))
    named = f"{name}, mean of {length:,} steps"
    return Series(named, [x for x, _ in means], [y for _, y in means], marks)


def is_noisy(values: ThinnedSeries) -> bool:
    """Whether a series has so many steps that its means say more than they do."""
    return values.count >= _NOISY


def side_by_side(drawings: Sequence[PageBlock]) -> list[PageBlock]:
    """Two in a row where there is room."""
    return [Columns(drawings[place : place + 2]) for place in range(0, len(drawings), 2)]


def curve_drawings(record: RunRecord, plots: Sequence[CurvePlot]) -> list[Drawing]:
    """Those of the plots for which the run has values."""
    found = []
    for plot in plots:
        lines = drawn_series(record, plot)
        if lines:
            svg = line_plot(lines, plot.title, "step", plot.y_label, plot.log_y)
            found.append(Drawing(svg, plot.caption))
    return found


def drawn_series(record: RunRecord, plot: CurvePlot, prefix: str = "") -> list[Series]:
    """The lines of a plot that have a value; marks stand on the first of them."""
    steps = record.steps
    if steps is None:
        return []
    marks, found = marks_of(record), list[Series]()
    for name, label in plot.names:
        values = steps.series.get(name)
        if values is None or not values.count:
            continue
        draw = means_of if plot.smooth else series_of
        found.append(draw(prefix + label, values, [] if found else marks))
    return found
