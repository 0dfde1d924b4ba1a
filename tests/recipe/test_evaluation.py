"""Suites, gates and the best checkpoint as a recipe names them: refused before anything is read."""

from pathlib import Path

import pytest

from tests.recipe.recipes import changed
from trainer.errors import RecipeError
from trainer.recipe.gates import Gate, parse_gate

SUITES = "evaluate.suites=[known-unknown, bias]"


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("known-unknown/hallucination < 0.2", ("known-unknown", "hallucination", "<", 0.2)),
        ("a/b<=1e-3", ("a", "b", "<=", 1e-3)),
        ("  a/b   >  -2 ", ("a", "b", ">", -2.0)),
        ("eval/a/b >= 0.5", ("a", "b", ">=", 0.5)),
        ("task_one/acc,none > 0.4", ("task_one", "acc,none", ">", 0.4)),
        ("perplexity/bits/prose < 2", ("perplexity", "bits/prose", "<", 2.0)),
    ],
)
def test_a_bound_is_read(text: str, gate: tuple[str, str, str, float]) -> None:
    """Catches a sign cut from `<=`, a figure's own slash, and the prefix that metrics have."""
    read = parse_gate(text, "here")
    assert (read.suite, read.figure, read.sign, read.limit) == gate
    assert read.within is None


@pytest.mark.parametrize("text", ["a/b within 1%", "eval/a/b within 1.0 % of the base"])
def test_a_part_of_the_base_is_read(text: str) -> None:
    """Catches a percentage taken for a fraction."""
    read = parse_gate(text, "here")
    assert (read.name, read.within, read.sign, read.limit) == ("a/b", 0.01, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a < 0.2",
        "a/b",
        "a/b = 0.2",
        "a/b == 0.2",
        "a/b << 0.2",
        "a/b < ",
        "a/b < nan",
        "a/b < inf",
        "a/b < 20%",
        "a/b < low",
        "a/b within 1",
        "a/b within x%",
        "a/b within -1%",
        "a/b within 1% of the loss",
        "a/ < 1",
        "/b < 1",
        "0.2 > a/b",
        "a/b < 0.2 < 3",
    ],
)
def test_what_is_no_gate_is_refused_with_its_text(text: str) -> None:
    """Catches a condition that is read as another one: a gate that cannot fail lets all pass."""
    with pytest.raises(RecipeError) as refused:
        parse_gate(text, "here")
    assert str(refused.value).startswith(f"here: {text!r}")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["evaluate.suites_every=5"], ["evaluate.suites_every", "evaluate.suites names none"]),
        (["evaluate.suites=[bias, bias]"], ["evaluate.suites", "bias twice"]),
        (
            [SUITES, "evaluate.gates=['bais/gap < 0.1']"],
            ["evaluate.gates", "bais/gap < 0.1", "did you mean bias?"],
        ),
        ([SUITES, "evaluate.gates=['BIAS/gap < 0.1']"], ["did you mean bias?"]),
        (
            [SUITES, "evaluate.gates=['perplexity/nats < 3']"],
            ["evaluate.gates", "add perplexity"],
        ),
        (["evaluate.gates=['bias/gap < 0.1']"], ["not in evaluate.suites", "add bias"]),
        (
            [SUITES, "evaluate.gates=['bias/gap ~ 0.1']"],
            ["evaluate.gates: 'bias/gap ~ 0.1'", "expected"],
        ),
        (
            [SUITES, "evaluate.gates=['bias/gap within 1%']"],
            ["'bias/gap within 1%'", "init_from"],
        ),
        (
            ["evaluate.suites=[bais]", "checkpoint.best=eval/bias/gap"],
            ["bias is not in evaluate.suites; add bias to it, or did you mean bais?"],
        ),
        ([SUITES, "evaluate.gates=['eval/loss < 2']"], ["eval/loss is of no suite; give"]),
        ([SUITES, "checkpoint.best=loss"], ["checkpoint.best", "'loss'", "eval/SUITE/FIGURE"]),
        ([SUITES, "checkpoint.best=eval/bias"], ["checkpoint.best", "eval/SUITE/FIGURE"]),
        (
            [SUITES, "checkpoint.best=eval/known-unknwn/auroc"],
            ["checkpoint.best", "did you mean known-unknown?"],
        ),
        (["checkpoint.best=eval/loss"], ["checkpoint.best", "never measured", "evaluate.every"]),
        (
            ["checkpoint.best=eval/loss", "evaluate.every=21"],
            ["checkpoint.best", "evaluate.every=21", "20 steps"],
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, overrides: list[str], says: list[str]
) -> None:
    """Catches a gate or a best checkpoint that a whole run waits for in vain."""
    with pytest.raises(RecipeError) as refused:
        changed(tmp_path, *overrides)
    line = str(refused.value)
    assert "\n" not in line
    for part in says:
        assert part in line


def test_what_agrees_is_accepted(tmp_path: Path) -> None:
    """Negative control, with every form at once, and the gates as they stand."""
    recipe = changed(
        tmp_path,
        SUITES,
        "init_from=base",
        "evaluate.suites_every=5",
        "evaluate.gates=['bias/gap within 2%', 'known-unknown/hallucination < 0.2']",
        "checkpoint.best=eval/bias/gap",
    )
    assert recipe.evaluate.parsed_gates() == (
        Gate("bias/gap within 2%", "bias", "gap", within=0.02),
        Gate("known-unknown/hallucination < 0.2", "known-unknown", "hallucination", "<", 0.2),
    )
    by_loss = changed(tmp_path, "checkpoint.best=eval/loss", "evaluate.every=20")
    assert by_loss.checkpoint.best
    gated = [SUITES, "evaluate.gates=['bias/gap < 0.1']", "checkpoint.best=eval/loss"]
    for every, suites_every in ((3, 6), (7, 2), (5, 3), (10, 0), (6, 9)):
        keys = [f"evaluate.every={every}", f"evaluate.suites_every={suites_every}"]
        assert changed(tmp_path, *gated, *keys).checkpoint.best
