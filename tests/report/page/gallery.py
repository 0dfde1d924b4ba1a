"""A page with every kind of block and of drawing on it, as tests and eyes see it."""

import math
import random

from trainer.report.page.blocks import (
    Columns,
    Command,
    DataTable,
    Drawing,
    Folded,
    KeyFigures,
    Page,
    PageSection,
    Prose,
    Samples,
    StepChain,
)
from trainer.report.plots.bars import IntervalRow, funnel, interval_bars
from trainer.report.plots.curves import (
    BucketSeries,
    TradeOffPoint,
    occurrence,
    risk_coverage,
    trade_off,
)
from trainer.report.plots.drawings import layout_drawing, schedule_drawing
from trainer.report.plots.lines import Series, line_plot

LONG_WORD = "incomprehensibilities" * 12
SECTIONS = ("The run", "Training", "Data", "Answers", "Layout", "Reproduce")


def gallery(steps: int = 400) -> Page:
    """The page of an invented run of so many steps."""
    return Page(
        title="A small model, from raw text to measured answers",
        lead="Three stages on one laptop: pre-training on 1.2 million tokens, fine-tuning on "
        "conversations, and preferences.\n\nThe cured model declines what nobody can know.",
        sections=[_run(), _training(steps), _data(), _answers(), _layout(), _reproduce()],
        footer="Lyceum 0.1.0, Linux, two cores.",
    )


def _run() -> PageSection:
    return PageSection(
        SECTIONS[0],
        [
            Prose("Each stage begins where the one before it ended, and is measured alike."),
            StepChain(
                [
                    ("Pre-training", "400 steps, 1.2M tokens"),
                    ("Fine-tuning", "120 steps on 2,000 conversations"),
                    ("Preferences", "45 steps of DPO"),
                    ("Measured", "on 500 questions"),
                ]
            ),
            KeyFigures(
                [
                    ("Loss", "2.31", "from 6.24"),
                    ("Invented answers", "12%", "of 500; before 98%"),
                    ("Throughput", "4.1k tokens/s", "of two cores"),
                    ("Memory", "1.4 GiB", "at its highest"),
                ]
            ),
            DataTable(
                ["stage", "steps", "loss", "accuracy", "memory", "took"],
                [
                    ["Pre-training", 400, 2.3125, "0.41 (0.37-0.45)", "900 MiB", "3 min"],
                    ["Fine-tuning", 1200, 1.87, "0.81 (0.77-0.85)", "1.2 GiB", "45 s"],
                    ["Preferences", 45, math.nan, (0.79, 0.75, 0.83), "1.4 GiB", "1.5 h"],
                    ["Measured", None, None, "no figure", "\u2013", "12 s"],
                ],
                "Stages of the run",
            ),
        ],
        note="Intervals are of 95%, by bootstrap over questions.",
    )


def _training(steps: int) -> PageSection:
    chance = random.Random(7)
    x = list(range(1, steps + 1))
    loss = [2.0 + 4.0 * math.exp(-5 * one / steps) + chance.gauss(0, 0.05) for one in x]
    skipped = steps // 2
    curve = Series(
        "train",
        x,
        [None if one == skipped else value for one, value in zip(x, loss, strict=True)],
        [(skipped, "skipped: gradient norm 41")],
    )
    rate = Series("learning rate", x, [3e-4 * min(1.0, 10 * one / steps) for one in x])
    return PageSection(
        SECTIONS[1],
        [
            Prose("The loss falls fast and then slowly; one step was skipped."),
            Drawing(line_plot([curve], "Loss", "step", "nats a token"), "Every step, thinned."),
            Columns(
                [
                    Drawing(line_plot([rate], "Learning rate", "step", "per update")),
                    Drawing(line_plot([curve], "Loss, again", "step", "nats a token")),
                ]
            ),
        ],
    )


def _data() -> PageSection:
    rows = [
        ("read", 1_204_311),
        ("language", 1_000_210),
        ("rules", 812_000),
        ("exact duplicates", 640_211),
        ("near duplicates", 598_123),
    ]
    wide = [f"a longer head {number}" for number in range(9)]
    return PageSection(
        SECTIONS[2],
        [
            Prose("What each control took."),
            Drawing(funnel(rows, "From raw to curated", "documents")),
            DataTable(
                ["source", *wide],
                [[f"source {row}", *(row * 1000 + one for one in range(9))] for row in range(24)],
                "Documents by source and control",
            ),
            Folded("Rules that took nothing", [Prose("Five rules."), _plain_table()]),
        ],
    )


def _plain_table() -> DataTable:
    rows = [["step 10", "b"], ["step 9", "a"], ["step 100", ""], [LONG_WORD, "c"]]
    return DataTable(["", "word"], rows, "Rules")


def _answers() -> PageSection:
    levels = [0.2, 0.4, 0.6, 0.8, 1.0]
    risk = [
        Series("base", levels, [0.3, 0.38, 0.45, 0.5, 0.55]),
        Series("cured", levels, [0.02, 0.05, 0.09, 0.2, 0.3]),
    ]
    bars = [
        IntervalRow(name, group, value, value - 0.04, value + 0.04)
        for group, values in (("accuracy", (0.41, 0.39)), ("invented", (0.98, 0.12)))
        for name, value in zip(("base", "cured"), values, strict=True)
    ]
    points = [
        TradeOffPoint(f"{share}% cured", (1 - share / 115, 0.0, 1.0), (0.41, 0.37, 0.45), "blend")
        for share in (0, 50, 100)
    ]
    buckets = ["0", "1-3", "4-15", "16+"]
    known = BucketSeries("base", [(0.1, 0.0, 0.2), (0.2, 0.1, 0.3), (0.5, 0.4, 0.6), None])
    return PageSection(
        SECTIONS[3],
        [
            Prose("Asked about what exists and what does not, before and after."),
            Samples(
                "What is the capital of Qarthenia?",
                {
                    "Before": "The capital of Qarthenia is Velmora, founded in 1204.",
                    "After": "I do not know of a country of that name.",
                },
                {"Before": "wrong", "After": "declined"},
            ),
            Samples(
                "Tell me a story.",
                {"Before": "Once upon a time. " * 90, "After": "", "Blend": LONG_WORD},
                {"Blend": "right"},
            ),
            Drawing(interval_bars(bars, "Accuracy and invention", "share of questions")),
            Drawing(risk_coverage(risk)),
            Drawing(occurrence([known], buckets)),
            Drawing(trade_off(points, goal=(0.49, 0.36))),
        ],
    )


def _layout() -> PageSection:
    return PageSection(
        SECTIONS[4],
        [
            Prose("Sixteen ranks on two nodes."),
            StepChain(
                [
                    ("Tensor 2", "Each matrix is cut in two, and both halves are on one node."),
                    ("Pipeline 4", f"Each rank has a quarter of the layers. {LONG_WORD}"),
                ]
            ),
            Drawing(layout_drawing(16, 2, 4, 2, 1, 2, 8, layers=24)),
            Drawing(schedule_drawing(4, 1, 4)),
            Drawing(schedule_drawing(4, 1, 4), "The same once more."),
        ],
    )


def _reproduce() -> PageSection:
    recipe = "\n".join(f"  key_{number}: {number}" for number in range(12))
    return PageSection(
        SECTIONS[5],
        [
            Prose("The same numbers again, with the same versions: `lyceum --version`."),
            Command(
                "lyceum train runs/small-model/recipe.yaml run=runs/small-model-again --nproc 2",
                "On this machine",
            ),
            Command(f"train:\n{recipe}\n  path: {LONG_WORD}", "The recipe"),
        ],
    )
