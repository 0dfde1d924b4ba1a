"""The figures of the data controls as JSON and as a page of Markdown."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.experiments.tables import about_machine, cell, markdown_table
from trainer.files import write_whole

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


def write_page(figures: Mapping[str, Any], folder: Path) -> str:
    """Write figures.json and figures.md into a folder, and return the page."""
    page = page_of(figures)
    write_whole(folder / "figures.json", json.dumps(figures, indent=1) + "\n")
    write_whole(folder / "figures.md", page)
    return page


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
    helped: list[str] = []
    harmed: list[str] = []
    open_: list[str] = []
    for name, means in SHOWN:
        better = found.get(name, {}).get("better")
        if better is None or name.startswith(("bias/", "known-unknown/", "occurrence/")):
            continue
        low, high = found[name]["differences"]["curated"]["interval"]
        sign = 1 if better == "higher" else -1
        kind = helped if min(sign * low, sign * high) > 0 else open_
        (harmed if max(sign * low, sign * high) < 0 else kind).append(means)
    lines = ["## What it says", ""]
    for words, names in (
        ("Better with controls, the interval of the difference beyond 0", helped),
        ("Worse with controls, likewise", harmed),
        ("Not told apart by these seeds and items", open_),
    ):
        lines += [f"- {words}: {'; '.join(names) if names else 'nothing'}."]
    remarks = [f"- {suite}: {line}" for suite, all_ in figures["remarks"].items() for line in all_]
    return [
        *lines,
        "",
        "## What it does not say",
        "",
        "- Defects were planted, and in such numbers that a small model shows them in minutes: the"
        " differences are no forecast for a corpus of the web, only for their sign.",
        "- All controls are on or off together; which of them gives which difference is not told"
        " apart, though each defect has one that acts on it.",
        "- The raw model reads its corpus less often: what it does not learn of clean text is lost"
        " to copies and boilerplate, and not damaged by them. That is what the controls save.",
        "- Five texts about each of 60 occupations teach so small a model next to nothing of who is"
        " what: where the raw model's own gap of pronouns is near 0, its row says nothing of"
        " counterfactual data, which `launch/experiments/bias` examines.",
        "- The suites `known-unknown` and `bias`, and facts that the docstrings state, ask for more"
        " than so small a model can do whatever its data; their rows show that it cannot:",
        *remarks,
    ]
