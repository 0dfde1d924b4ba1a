"""Runs of any length on a page of bounded size, read in bounded memory."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from tests.report.recorded import examined, record_run, step_record
from tests.traced import traced
from trainer.cli import main
from trainer.report.reading.examinations import read_examinations
from trainer.report.reading.steps import read_steps_of
from trainer.report.reading.thinning import STRETCHES, ThinnedSeries

MOST_BYTES, MOST_TAGS = 3_000_000, 10_000
STEPS = 100_000


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100,000 steps with a spike, and gaps, in a file of 40 MB."""
    run = record_run(tmp_path_factory.mktemp("long") / "run", [])
    line = json.dumps(step_record(0) | {"step": -1, "loss": -2, "grad_norm": -3})
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, STEPS + 1):
            loss = 2 + 8 / (1 + step / 500) + 0.2 * math.sin(step)
            norm = 1000.0 if step == 77_777 else 1 + step % 3
            text = line.replace('"step": -1', f'"step": {step}')
            text = text.replace('"loss": -2', f'"loss": {loss if step % 5000 else "null"}')
            file.write(text.replace('"grad_norm": -3', f'"grad_norm": {norm}') + "\n")
    return run


def test_a_page_of_100_000_steps_stays_small(long_run: Path) -> None:
    """Would catch a page that holds every step, or loses the one that matters."""
    assert main(["report", str(long_run)]) == 0
    page = (long_run / "report.html").read_text()
    assert len(page.encode()) < MOST_BYTES
    assert page.count("<") < MOST_TAGS, "a browser lays it out at once"
    assert "highest 1,000" in page, "the spike of the gradient norm is drawn"


def test_steps_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """Would catch the whole of metrics.jsonl in memory: a long run's would not fit."""
    runs = [
        record_run(tmp_path / str(count), ({"step": n, "loss": 2.5} for n in range(1, count + 1)))
        for count in (2_000, 12_000)
    ]
    short, long = (traced(lambda run=run: read_steps_of(run)) for run in runs)  # type: ignore[misc]
    assert long.most < 1.5 * short.most
    whole = traced(lambda: [json.loads(line) for line in (runs[1] / "metrics.jsonl").open()])
    assert whole.most > 3 * long.most, "the check would see a file that is kept"


def test_a_base_is_read_beside_hundreds_of_examinations(tmp_path: Path) -> None:
    """Would catch the figures from before lost to the number of those that came after."""
    run = record_run(tmp_path / "run")
    examined(run, "base", 0.8, 0.4)
    for step in range(1, 411):
        examined(run, f"step-{step:08d}", 0.5, 0.4)
    found = read_examinations(run)
    assert found[0].step is None and found[0].figures["known-unknown/hallucination"].value == 0.8
    assert found[-1].step == 410 and len(found) == 400, "no more than are read of any run"


def test_thinning_keeps_ends_extremes_and_means() -> None:
    """Would catch a spike that is thinned away, or means that count some steps twice."""
    series = ThinnedSeries()
    values = [math.sin(step / 50) + step / 1000 for step in range(1, 20_001)]
    values[12_344], values[3] = 99.0, -99.0
    for step, value in enumerate(values, 1):
        series.add(step, value if step % 7 else None)
    points = dict(series.points())
    assert len(points) <= 2 * STRETCHES + 2
    assert points[12_345] == 99.0 and points[4] == -99.0
    assert min(points) == 1 and series.first == (1, values[0])
    assert series.last == (20_000, values[-1]) and points[20_000] == values[-1]
    kept = [value for step, value in enumerate(values, 1) if step % 7]
    assert series.count == len(kept)
    assert series.mean == pytest.approx(math.fsum(kept) / len(kept))
    length, means = series.means(50)
    assert len(means) <= 50 and length * len(means) >= 20_000
    assert all(after[0] - before[0] == length for before, after in pairwise(means))


@pytest.mark.parametrize("count", [1, 2, 10, STRETCHES, STRETCHES + 1])
def test_a_short_series_is_kept_whole(count: int) -> None:
    """Would catch a point that is lost where nothing had to be."""
    series = ThinnedSeries()
    given = [(step, float(step % 4) if step % 3 else None) for step in range(1, count + 1)]
    for step, value in given:
        series.add(step, value)
    if count <= STRETCHES:
        assert list(series.points()) == given
    else:
        assert len(list(series.points())) < count + 2
