"""`evaluate`: what is measured while training, and what must hold of it."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.gates import Gate, parse_gate
from trainer.recipe.reading import close_name
from trainer.recipe.section import Count, Fraction, Names, Positive, Section

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

LOSS = "eval/loss"
"""The figure of `evaluate.every` by which a best checkpoint may be chosen."""


class EvaluateSection(Section):
    """Validation loss, suites and sample text at intervals."""

    every: Count = 0
    """Steps between validation losses; 0: none while training."""
    sequences: Positive = 64
    """Packed validation sequences that the loss is taken over."""
    suites: Names = ()
    """Suites that are measured on the model while it trains, as by `lyceum evaluate --suite`: their
    figures become eval/SUITE/FIGURE of the step, their items RUN/evaluations/step-NNNNNNNN/."""
    suites_every: Count = 0
    """Steps between measurements of the suites; 0: after the last step alone, which is always
    measured."""
    limit: Positive | None = None
    """Items of a suite at most; none: the suite's own number."""
    seed: Count = 0
    """Draws items and resamples for intervals, whatever the run's seed, so that runs compare."""
    tasks_path: str | None = None
    """A folder of lm-eval tasks that `suites` may name too; none: those that lm-eval brings."""
    gates: Names = ()
    """What must hold of the suites' figures, each "SUITE/FIGURE < NUMBER" (or <=, >, >=) or
    "SUITE/FIGURE within P%" of the same figure of the model in `init_from`, measured before step 1:
    no worse than it by more than that. The figure itself decides, not its interval. A
    checkpoint that fails is never checkpoints/best; a run whose last measurement fails ends with
    exit code 5."""
    sample_every: Count = 0
    """Steps between sample texts; 0: none while training."""
    prompts: Names = ()
    """What the sample texts begin with."""
    sample_tokens: Positive = 64
    """Tokens a sample text has at most."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.8
    """Divides the logits before sampling; 0: always the likeliest token."""
    top_k: Count = 0
    """Only the k likeliest tokens are sampled; 0: all."""
    top_p: Fraction = 1.0
    """Only the likeliest tokens that together have this probability are sampled."""

    def parsed_gates(self) -> tuple[Gate, ...]:
        """The gates, in their order; raises RecipeError for a malformed one."""
        return tuple(parse_gate(text, "evaluate.gates") for text in self.gates)


def check_evaluation(recipe: "Recipe") -> None:
    """Raise RecipeError where suites, gates and the best checkpoint do not agree.

    Which suites there are, and which figures they give, is checked before the run starts.
    """
    section = recipe.evaluate
    doubled = [name for name in section.suites if section.suites.count(name) > 1]
    if doubled:
        raise RecipeError(f"evaluate.suites: names {doubled[0]} twice; leave one out")
    if section.suites_every and not section.suites:
        raise RecipeError(
            f"evaluate.suites_every: {section.suites_every}, but evaluate.suites names none; name "
            "some, or leave it out"
        )
    for gate in section.parsed_gates():
        if f"eval/{gate.figure}" == LOSS and gate.suite == "eval":
            raise RecipeError(
                f"evaluate.gates: {gate.text!r}: {LOSS} is of no suite; give perplexity/nats, the "
                "loss over the suite perplexity"
            )
        _require_suite(recipe, gate.suite, f"evaluate.gates: {gate.text!r}")
        if gate.within is not None and recipe.init_from is None:
            raise RecipeError(
                f"evaluate.gates: {gate.text!r} compares with the model in init_from, and the run "
                "starts from none; give a number, or set init_from"
            )
    if recipe.checkpoint.best is not None:
        _check_best(recipe, recipe.checkpoint.best)


def _check_best(recipe: "Recipe", best: str) -> None:
    every = recipe.evaluate.every
    if best == LOSS:
        if every == 0:
            mend = "set evaluate.every"
        elif every > recipe.steps:
            mend = f"evaluate.every={every} comes after the last of {recipe.steps} steps; lower it"
        else:
            return
        raise RecipeError(f"checkpoint.best: {LOSS} is never measured; {mend}")
    parts = best.split("/", 2)
    if len(parts) < 3 or parts[0] != "eval" or not all(parts):
        raise RecipeError(
            f"checkpoint.best: {best!r} is not a figure; give {LOSS}, or eval/SUITE/FIGURE, for "
            "example eval/known-unknown/hallucination"
        )
    _require_suite(recipe, parts[1], f"checkpoint.best: {best!r}")


def _require_suite(recipe: "Recipe", suite: str, of: str) -> None:
    measured = recipe.evaluate.suites
    if suite in measured:
        return
    near = close_name(suite, measured)
    mend = f"add {suite} to it" + (f", or did you mean {near}?" if near else "")
    raise RecipeError(f"{of}: the suite {suite} is not in evaluate.suites; {mend}")
