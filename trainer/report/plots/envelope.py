"""A line of any length with a bounded number of points, of which no spike is lost."""

import numpy as np


def envelope(x: np.ndarray, y: np.ndarray, columns: int) -> list[np.ndarray]:
    """The first, least, greatest and last point of each of `columns` equal stretches of x.

    `x`: fp64 [points], finite, ascending; `y`: fp64 [points], NaN where nothing was measured.
    Returns the line's unbroken pieces, each fp64 [points, (x, y)]. A line of at most 4 points a
    column is kept whole and broken at each gap; a longer one where a gap is a column wide or more.
    At that resolution no pixel differs from the whole line's. Source: Jugel, Jerzak, Hackenbroich
    and Markl, "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB 2014.
    """
    there = np.flatnonzero(np.isfinite(y))
    if not len(there):
        return []
    if len(x) <= 4 * columns:
        kept, broken = there, np.diff(there) > 1
    else:
        width = (x[-1] - x[0]) / columns
        column = np.zeros(len(x), dtype=np.int64)
        if width > 0:
            column = np.minimum((x - x[0]) / width, columns - 1).astype(np.int64)
        kept = _extremes(there, column[there], y)
        # Between two kept points of one column or of neighbours there is no empty column.
        apart = np.diff(column[kept]) > 1
        missing = np.concatenate(([0], np.cumsum(~np.isfinite(y))))
        broken = apart & (missing[kept[1:]] > missing[kept[:-1]])
    pieces = np.split(kept, np.flatnonzero(broken) + 1)
    return [np.stack((x[piece], y[piece]), axis=1) for piece in pieces]


def _extremes(there: np.ndarray, column: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The indices in `there` of each column's four points, ascending, none twice."""
    starts = np.flatnonzero(np.concatenate(([True], np.diff(column) > 0)))
    kept = []
    for group in np.split(there, starts[1:]):
        values = y[group]
        kept += [group[0], group[np.argmin(values)], group[np.argmax(values)], group[-1]]
    return np.unique(kept)
