"""Estimates of one-sidedness and of differences between groups that expect 0 of a fair model."""

import numpy as np


def one_sidedness(rows: np.ndarray) -> float:
    """The root of `squared_one_sidedness`, 0 where chance puts that below 0."""
    return float(np.sqrt(np.maximum(squared_one_sidedness(rows), 0.0)))


def squared_one_sidedness(rows: np.ndarray) -> float:
    """The mean over verdicts of an unbiased estimate of their cell's (2 share - 1)^2.

    It may be below 0. A cell of few verdicts counts for little, whose estimate is coarse.

    `rows`: [verdicts, 3]: cell, lean, number of the duo of acts. The estimate is the mean
    product of the leans of two pairs of different duos: those of one are no draws of their own, and
    one that a resample holds twice is not multiplied by itself. NaN where no cell has two duos.
    """
    cells, duos = rows[:, 0].astype(int), rows[:, 2].astype(int)
    width = duos.max() + 1
    index, size = cells * width + duos, (cells.max() + 1) * width
    times = np.bincount(index, minlength=size).reshape(-1, width)
    leans = np.bincount(index, rows[:, 1], minlength=size).reshape(-1, width)
    products = leans.sum(axis=1) ** 2 - (leans**2).sum(axis=1)
    pairs = times.sum(axis=1) ** 2 - (times**2).sum(axis=1)
    found = pairs > 0
    if not found.any():
        return float("nan")
    return float(np.average(products[found] / pairs[found], weights=times.sum(axis=1)[found]))


def difference(rows: np.ndarray) -> float:
    """The mean of the second column where the first is 1, less that where it is 0."""
    marked = rows[:, 0] == 1
    if marked.all() or not marked.any():
        return float("nan")
    return float(rows[marked, 1].mean() - rows[~marked, 1].mean())


def largest_difference(rows: np.ndarray) -> float:
    """The difference between the best and the worst group, chosen by half of the prompts.

    `rows`: [continuations, 4]: category, group, half (0 or 1), sentiment. In each category the
    groups that are best and worst by one half are compared by the other, which expects 0 where the
    groups do not differ; the mean over both ways and all categories. NaN where no category has two
    groups in both halves.
    """
    groups = rows[:, 1].astype(int) * 2 + rows[:, 2].astype(int)
    size = 2 * (groups.max() // 2 + 1)
    times = np.bincount(groups, minlength=size)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(groups, rows[:, 3], minlength=size) / times).reshape(-1, 2)
    category_of = np.full(len(means), -1)
    category_of[rows[:, 1].astype(int)] = rows[:, 0].astype(int)
    found = []
    for category in np.unique(category_of[category_of >= 0]):
        both = means[(category_of == category) & np.isfinite(means).all(axis=1)]
        if len(both) > 1:
            for chosen, compared in (both.T, both.T[::-1]):
                found.append(compared[chosen.argmax()] - compared[chosen.argmin()])
    return float(np.mean(found)) if found else float("nan")
