"""The figures of the bias experiment as JSON and as a page of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from launch.experiments.tables import about_machine, cell, markdown_table

SHOWN = (
    ("pronouns/gap", "bias gap of pronouns, nats (fair: 0)"),
    ("pronouns/share", "pronouns that go with prejudice (fair: 0.5)"),
    ("pronouns/distance", "distance of the pronouns, either way, nats"),
    ("pronouns/mass", "probability of both pronouns together"),
    (
        "bias-gender/share_likelihood",
        "suite bias, of women and men: likelier (fair: 0.5)",
    ),
    ("bias-gender/share_choice", "suite bias, of women and men: chosen (fair: 0.5)"),
    ("bias-gender/valid", "suite bias, of women and men: context questions right both ways"),
    ("perplexity/bits_per_byte", "bits a byte of held-out docstrings"),
    ("known-unknown/accuracy", "things that exist: right"),
    ("known-unknown/hallucination", "things that do not exist: answered"),
)
SMALL_METHODS = {
    "skewed": "nothing done",
    "beside": "each text's counterfactual beside it",
}
CURES = ("base", "cured", "blended")


def page_of(figures: Mapping[str, Any]) -> str:
    """The page: both tables, what they say and do not say."""
    small = figures["small"]
    lines = [
        "# The bias gap, with counterfactual data and without",
        "",
        f"`{figures['command']}`",
        "",
        about_machine(small["environment"]),
        "",
        "Intervals (95%) are over seeds and items: occupations, or what the suite of a row asks."
        " *Gap*: nats by which the pronoun that prejudice gives to an occupation is likelier than"
        " the other, over sentences that nothing was trained on (`pronouns.py`).",
        "",
        *_small(small),
        *_smollm2(figures),
        "## What it does not say",
        "",
        "- One form of prejudice, in English: pronouns behind occupations. Other figures of a cured"
        " model may stay as they are; the rows of the suite `bias` show some.",
        "- All models of a size read as many tokens: counterfactuals beside their texts leave less"
        " of them for docstrings; whether that is what bits a byte pay in the small model was not"
        " measured.",
        "- A gap of 0 is no fairness where the model gives neither pronoun any weight, or where it"
        " knows no occupation; the rows beside it are there for that.",
        "- The corpus of the small model is made of templates, and its skew was planted: the size"
        " of its gap is no forecast for a corpus of the web.",
    ]
    return "\n".join(lines) + "\n"


def _small(small: Mapping[str, Any]) -> list[str]:
    trained, conditions = small["trained"], tuple(SMALL_METHODS)
    return [
        "## A small model",
        "",
        f"{trained['layers']} layers of {trained['hidden']}, {trained['steps']:,} steps of 512"
        f" tokens, {_seeds(small)}, on {small['documents_an_occupation']} short texts"
        f" about each of {small['occupations']} occupations, of which nine of ten have the pronoun"
        " of prejudice, between docstrings. "
        + "; ".join(f"*{name}*: {means}" for name, means in SMALL_METHODS.items())
        + ".",
        "",
        *_table(small["figures"], conditions),
        "",
        *_verdicts(small["figures"], conditions),
        f"- Gap by seed: {_by_seed(small)}. A seed without a gap in the skewed corpus has learned"
        " no skew that could be cured.",
        "",
    ]


def _by_seed(small: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{condition} {', '.join(f'{value + 0.0:.3f}' for value in values)}"
        for condition, values in small["gap_by_seed"].items()
    )


def _smollm2(figures: Mapping[str, Any]) -> list[str]:
    found = figures["smollm2"]
    if found is None:
        reason = figures.get("smollm2_left_out", "it was left out")
        return ["## SmolLM2", "", f"Not measured: {reason}.", ""]
    trained = found["trained"]
    minutes = " and ".join(f"{seconds / 60:.1f}" for seconds in found["seconds"])
    return [
        "## SmolLM2-135M-Instruct",
        "",
        f"LoRA of rank 8, {trained['steps']} steps of {trained['tokens_a_step']} tokens"
        f" ({minutes} minutes), {_seeds(found)}, on sentences of ours about"
        f" {found['occupations']['trained']} occupations, each beside its counterfactual"
        " (`conversations.balance.counterfactual: 1.0`). Pronouns are measured on"
        f" {found['occupations']['held out']} other occupations, in sentences of other words. Half"
        " of what is read are docstrings, others than those measured. *blended*:"
        f" {found['blended']:g} of the cured model's weights and the rest of the base's.",
        "",
        *_table(found["figures"], CURES),
        "",
        *_verdicts(found["figures"], CURES),
        *_why_not_cured(found),
        *_not_asked(found["figures"]),
        "",
    ]


def _seeds(part: Mapping[str, Any]) -> str:
    count = len(part["seeds"])
    return (
        "one seed, so that intervals are over occupations alone" if count == 1 else f"{count} seeds"
    )


def _why_not_cured(found: Mapping[str, Any]) -> list[str]:
    """Of a cure whose gap is not surely smaller, what it has learned instead."""
    if found["figures"]["pronouns/gap"]["differences"]["cured"]["interval"][1] < 0:
        return []
    mass = found["figures"]["pronouns/mass"]["conditions"]
    before, after = (mass[which]["value"] for which in ("base", "cured"))
    trained = found["trained"]
    return [
        f"- {trained['steps']} steps of {trained['tokens_a_step']} tokens have brought both"
        f" pronouns together from {before:.2f} to {after:.2f}, and the gap not surely lower."
    ]


def _not_asked(found: Mapping[str, Any]) -> list[str]:
    if "known-unknown/accuracy" in found:
        return []
    return ["- Things that exist were not asked: what a cure costs in knowledge is not told here."]


def _table(found: Mapping[str, Any], conditions: Sequence[str]) -> list[str]:
    base, *others = conditions
    rows = [
        [
            means,
            *(cell(found[name]["conditions"][one]) for one in conditions),
            *(cell(found[name]["differences"][one]) for one in others),
            str(found[name]["conditions"][base]["items"]),
        ]
        for name, means in SHOWN
        if name in found
    ]
    heads = ["", *conditions, *(f"{one} less {base}" for one in others), "items"]
    return markdown_table(heads, rows)


def _verdicts(found: Mapping[str, Any], conditions: Sequence[str]) -> list[str]:
    """A line for each condition but the first: is the gap smaller, and what does it cost."""
    base, *others = conditions
    lines = []
    for one in others:
        gap, utility = found["pronouns/gap"], found["perplexity/bits_per_byte"]
        before, after = (gap["conditions"][which]["value"] for which in (base, one))
        low, high = gap["differences"][one]["interval"]
        if high < 0:
            verdict = f"the gap falls from {before:.3f} to {after:.3f} nats"
        elif low > 0:
            verdict = f"the gap grows from {before:.3f} to {after:.3f} nats (the method fails)"
        else:
            verdict = f"the gap, {before:.3f} and {after:.3f} nats, is not told apart"
        ends = gap["conditions"][one]["interval"]
        fair = "is not told from 0" if ends[0] <= 0 <= ends[1] else "is told from 0"
        cost = utility["differences"][one]["value"] / utility["conditions"][base]["value"]
        low, high = utility["differences"][one]["interval"]
        told = ", which is not told from none" if low <= 0 <= high else ""
        lines.append(
            f"- *{one}*: {verdict}, and {fair}; bits a byte change by {100 * cost:+.1f}%{told}."
        )
    return lines
