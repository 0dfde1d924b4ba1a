"""The demo's printed texts and tables."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.demo.examination import Examination, ShownQuestion
from trainer.demo.pretraining import Scores, last_figure
from trainer.demo.recipes import REPEATED_STEPS, Recipes
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe

LONGEST_SHOWN = 150
SUPERVISED = "supervised_tokens"
STAGES = ("pre-trained", "fine-tuned", "preferring")

ReportRows = list[tuple[str, str]]


def introduce(console: Console, recipe: Recipe) -> None:
    """Print what the demo is about to do."""
    console.print(
        f"A transformer of {recipe.model.layers} layers, {_parameters(recipe):,} parameters, learns"
        " to write documentation, then to answer questions about it, then which of two answers is"
        " better: from docstrings to shards, to a trained model, to text, by the path that a run on"
        " 1,000 GPUs takes. Nothing is downloaded."
    )


def chapter(console: Console, number: int, title: str) -> None:
    """Print the heading of a chapter."""
    console.print()
    console.rule(f"[bold]{number}  {title}", align="left")


def score_rows(recipe: Recipe, scores: Scores, difference: float, seconds: float) -> ReportRows:
    """(name, value) rows of the results of pre-training.

    `difference`: the largest difference of losses between layouts, in nats; `seconds`: of training.
    """
    ahead = scores.trigram - scores.model
    verdict = f"{ahead:.2f} nats ahead" if ahead > 0 else f"{-ahead:.2f} nats behind"
    return [
        ("parameters", f"{_parameters(recipe):,}"),
        ("tokens read", f"{scores.tokens_read:,}"),
        ("validation tokens", f"{scores.tokens_predicted:,}"),
        ("guessing", f"{scores.uniform:.3f} nats a token"),
        ("Kneser-Ney trigram of what was read", f"{scores.trigram:.3f} nats a token"),
        ("the model", f"{scores.model:.3f} nats a token: {verdict}"),
        (f"last {REPEATED_STEPS} losses at the two layouts", f"differ by {difference:.1e} at most"),
        ("training", f"{seconds:.0f} s"),
    ]


def print_stages(
    console: Console,
    recipes: Recipes,
    examinations: Sequence[Examination],
    seconds: Sequence[float],
) -> None:
    """Print the figures of each stage on held-out names.

    `examinations`: before fine-tuning, after it, and after the preference stage; `seconds`: of the
    two stages.
    """
    tuned, preferring = Path(recipes.fine_tuning.run), Path(recipes.preference.run)
    first = examinations[0]
    table = Table()
    for name in (
        "",
        f"nats a token of {first.questions:,} held-out answers",
        f"right answer of {first.pairs:,} held-out pairs likelier",
        "tokens learnt from",
        "seconds",
    ):
        table.add_column(name, justify="right" if name else "left")
    spent = ["", *(f"{each:.0f}" for each in seconds)]
    learnt = ["", *(f"{last_figure(run, SUPERVISED):,.0f}" for run in (tuned, preferring))]
    for row in zip(STAGES, examinations, learnt, spent, strict=True):
        stage, examination, tokens, time = row
        nats, preferred = f"{examination.nats:.3f}", f"{examination.preferred:.1%}"
        table.add_row(stage, nats, preferred, tokens, time)
    console.print(table)
    preference = (
        f"Of trained names' pairs that were kept from the preference stage, it prefers the right"
        f" answer in {last_figure(preferring, 'eval/reward_accuracy'):.1%}, loss"
        f" {last_figure(preferring, 'eval/loss'):.3f}."
    )
    console.print(preference, highlight=False)


def print_figures(console: Console, figures: ReportRows) -> None:
    """Print a table of names and values."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    for name, value in figures:
        table.add_row(name, value)
    console.print(table)


def print_answers(
    console: Console, shown: Sequence[ShownQuestion], examinations: Sequence[Examination]
) -> None:
    """Print the answers of each model to each question, with the documentation's."""
    table = Table(show_lines=False)
    table.add_column("asked", style="bold")
    table.add_column("answered")
    for number, one in enumerate(shown):
        learnt = "a name never asked about" if one.held_out else "a name it was asked about"
        table.add_row(Text(one.question), Text(learnt, style="dim"))
        table.add_row("  the documentation", Text(one.answer, style="green"))
        for stage, examination in zip(STAGES, examinations, strict=True):
            table.add_row(f"  {stage}", Text(_on_a_line(examination.answers[number])))
        table.add_section()
    console.print(table)
    console.print(
        "Minutes teach so small a model the form of an answer, and to begin to read the name. What"
        " a name means it knows at best where it was trained on it; of others it can only guess."
    )


def print_next(console: Console, recipes: Recipes) -> None:
    """Print commands to try next."""
    recipe = recipes.pretraining
    console.print("\nNext:")
    for command in (
        f"lyceum chat {recipes.preference.run}",
        f'lyceum generate {recipe.run} --prompt "os.path.join("',
        f"lyceum export {recipes.preference.run} {recipe.run}-exported",
        f"lyceum corpus trace {recipe.run} {recipe.steps}",
        "lyceum train tiny parallel.tensor=2 parallel.pipeline=2 zero.stage=1 --nproc 8",
    ):
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)


def _parameters(recipe: Recipe) -> int:
    assert recipe.model.vocab is not None, "the demo's recipe names its vocabulary"
    return parameter_count(recipe.model, recipe.model.vocab)["total"]


def _on_a_line(answer: str) -> str:
    line = " ".join(answer.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]} …"
