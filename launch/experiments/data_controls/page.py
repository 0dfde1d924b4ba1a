"""The figures of the data controls as JSON and as a page of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from launch.experiments.data_controls.towns import VALUES
from launch.experiments.tables import about_machine, cell, markdown_table

SHOWN = (
    ("perplexity/bits_per_byte", "bits a byte of clean, held-out docstrings"),
    (
        "planted-facts/accuracy_uncontested",
        "planted facts right that nothing contradicts, of 16 (by chance 0.06)",
    ),
    ("planted-facts/accuracy_contested", "planted facts right that a copied page contradicts"),
    ("planted-facts/misled", "the copied page's value likelier than the pages'"),
    ("memorisation/extraction", "sequences of the raw corpus that are recited"),
    ("memorisation/extraction_over_20", "of these, what stands there more often than 20 times"),
    ("memorisation/exposure", "exposure of the canaries, bits of 7 (never seen: 1.4)"),
    ("memorisation/exposure_32_copies", "exposure of the canaries that 32 documents hold"),
    ("memorisation/exposed", "canaries of 3.5 bits and more"),
    ("memorisation/personal_leaked", "planted personal data that is recited"),
    ("pronouns/gap", "bias gap of pronouns, nats (fair: 0)"),
    ("pronouns/share", "pronouns that go with prejudice (fair: 0.5)"),
    ("occurrence/accuracy", "facts of the clean text right, of 16 objects"),
    ("bias/valid", "suite bias: questions about a context right (by chance 0.25)"),
    ("bias/gap", "suite bias: gap"),
    ("known-unknown/accuracy", "suite known-unknown: things that exist, right"),
    ("known-unknown/hallucination", "suite known-unknown: things that do not, answered"),
)
FOR_LARGER = ("bias/", "known-unknown/", "occurrence/")
"""Suites of which no verdict is given."""
CHANCE = {
    "planted-facts/accuracy_uncontested": 1 / VALUES,
    "planted-facts/accuracy_contested": 1 / VALUES,
    "occurrence/accuracy": 1 / 16,
    "bias/valid": 0.25,
    "known-unknown/accuracy": 0.0,
}
"""What a model that knows nothing gets in some of the rows."""


def page_of(figures: Mapping[str, Any]) -> str:
    """The page: what was done, the table, what it says and does not say."""
    trained, corpora = figures["trained"], figures["corpora"]
    found = figures["figures"]
    rows = [
        [
            means,
            *(cell(found[name]["conditions"][one]) for one in ("raw", "curated")),
            cell(found[name]["differences"]["curated"]),
            str(found[name]["conditions"]["raw"]["items"]),
        ]
        for name, means in SHOWN
        if name in found
    ]
    steps, seeds = trained["steps"], len(figures["seeds"])
    lines = [
        "# Data controls on and off",
        "",
        f"`{figures['command']}`",
        "",
        about_machine(figures["environment"]),
        "",
        f"The same model ({trained['layers']} layers of {trained['hidden']}), first weights,"
        f" tokenizer and {steps:,} steps of 512 tokens, {seeds} seeds, on a raw corpus with"
        f" planted defects ({figures['documents']['raw']:,} documents,"
        f" {corpora['raw']['tokens']:,} tokens) and on what `lyceum corpus build`"
        f" leaves of it by its default rules and with"
        f" `rules.balance.counterfactual: 1.0` ({corpora['curated']['documents']:,} documents,"
        f" {corpora['curated']['tokens']:,} tokens). Intervals (95%) are over seeds and items.",
        "",
        *markdown_table(["", "raw", "curated", "curated less raw", "items"], rows),
        "",
        "Documents that each step of the controls leaves: "
        + ", ".join(f"{step} {documents:,}" for step, documents in figures["funnel"])
        + ". (`counterfactual` adds.)",
        "",
        *_what_it_says(figures),
    ]
    return "\n".join(lines) + "\n"


def _what_it_says(figures: Mapping[str, Any]) -> list[str]:
    found = figures["figures"]
    verdicts: dict[str, list[str]] = {"Better": [], "Worse": [], "open": []}
    for name, means in SHOWN:
        better = found.get(name, {}).get("better")
        if better is not None and not name.startswith(FOR_LARGER):
            verdicts[_verdict(better, found[name]["differences"]["curated"])].append(means)
    return [
        "## What it says",
        "",
        "- Better with controls, the interval of the difference beyond 0:"
        f" {_listed(verdicts['Better'])}.",
        f"- Worse with controls, likewise: {_listed(verdicts['Worse'])}.",
        f"- Not told apart by these seeds and items: {_listed(verdicts['open'])}.",
        "",
        "## What it does not say",
        "",
        "- Defects were planted, and in such numbers that a small model shows them in minutes: the"
        " differences are no forecast for a corpus of the web, only for their sign.",
        "- All controls are on or off together; which of them gives which difference is not told"
        " apart, though each defect has one that acts on it.",
        *_readings(figures),
        *_near_nothing(found),
        *_remarks(figures),
    ]


def _verdict(better: str, difference: Mapping[str, Any]) -> str:
    """Better, Worse or open: what a difference's whole interval says; one without says nothing."""
    low, high = difference["interval"]
    if low is None or high is None or low <= 0 <= high:
        return "open"
    return "Better" if (low > 0) == (better == "higher") else "Worse"


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names) or "nothing"


def _readings(figures: Mapping[str, Any]) -> list[str]:
    """How often each model reads its corpus, where the raw one is read less often."""
    tokens = 512 * figures["trained"]["steps"]
    raw, curated = (tokens / figures["corpora"][one]["tokens"] for one in ("raw", "curated"))
    if raw >= curated:
        return []
    return [
        f"- The raw corpus is read {raw:.2g} times and the curated one {curated:.2g} times: what"
        " the raw model does not learn of clean text may be lost to copies and boilerplate, and not"
        " damaged by them."
    ]


def _near_nothing(found: Mapping[str, Any]) -> list[str]:
    """Rows in which there is nothing that controls could change."""
    lines = []
    gap = found.get("pronouns/gap")
    if gap is not None and not _is_beyond(gap["conditions"]["raw"], 0.0):
        lines.append(
            "- The raw model's own gap of pronouns is not told from 0: its row says nothing of"
            " counterfactual data, which `launch/experiments/bias` examines."
        )
    guessed = [
        means
        for name, means in SHOWN
        if name in CHANCE
        and name in found
        and not any(_is_beyond(one, CHANCE[name]) for one in found[name]["conditions"].values())
    ]
    if guessed:
        lines.append(
            "- Surely better than by chance with neither corpus, so that the row tells nothing of"
            f" the controls: {_listed(guessed)}."
        )
    if any(name.startswith(FOR_LARGER) for name in found):
        lines.append(
            "- No verdict above counts the suites `bias`, `known-unknown` and `occurrence`, which"
            " were not made for so small a model; their rows stand in the table."
        )
    return lines


def _is_beyond(figure: Mapping[str, Any], value: float) -> bool:
    """Whether a figure's whole interval lies above a value."""
    low, _ = figure["interval"]
    return low is not None and low > value


def _remarks(figures: Mapping[str, Any]) -> list[str]:
    seed = figures["seeds"][-1]
    return [
        f"- Of the curated model of seed {seed}, suite {suite}: {line}"
        for suite, lines in figures["remarks"].items()
        for line in lines
    ]
