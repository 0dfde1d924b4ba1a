"""A stage is chosen once: the table in trainer/recipe/stages.py alone knows the names."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

from trainer.recipe.stages import STAGES, StageName

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "trainer/recipe/stages.py"
NAMES = get_args(StageName)


def choices(tree: ast.AST) -> Iterator[str]:
    """Where a stage's name decides: comparisons, match cases, tests of membership, look-ups."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_asks_for_stage(side) for side in sides) and any(map(_has_string, sides)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Match) and _asks_for_stage(node.subject):
            yield f"match {ast.unparse(node.subject)}"
        elif (isinstance(node, ast.Subscript) and _stage_of_recipe(node.slice)) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and any(map(_stage_of_recipe, node.args))
        ):
            yield ast.unparse(node)


def _asks_for_stage(node: ast.AST) -> bool:
    """Whether this is a recipe's stage, or a variable called after one."""
    return _stage_of_recipe(node) or (isinstance(node, ast.Name) and node.id == "stage")


def _stage_of_recipe(node: ast.AST) -> bool:
    """Whether this is `recipe.stage`, whatever the recipe is called; ZeRO's stage is a number."""
    return (
        isinstance(node, ast.Attribute) and node.attr == "stage" and "zero" not in ast.unparse(node)
    )


def _has_string(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node))


def test_no_stage_is_chosen_outside_the_table() -> None:
    """Catches the second place that must be found when a stage is added."""
    found = {}
    for package in ("trainer", "launch"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if path == TABLE or not any(name in text for name in ("stage", *NAMES)):
                continue
            if lines := list(choices(ast.parse(text))):
                found[str(path.relative_to(ROOT))] = lines
    # The property by which everybody asks the table.
    assert found == {"trainer/recipe/recipe.py": ["STAGES[self.stage]"]}


def test_a_choice_by_name_would_be_found() -> None:
    """Negative control: each way of choosing, and neither a number nor a message."""
    for line in (
        "if recipe.stage == 'sft': pass",
        "if 'pretrain' != model.recipe.stage: pass",
        "if recipe.stage in ('sft', 'preference'): pass",
        "stage = recipe.stage\nif stage == 'sft': pass",
        "match recipe.stage:\n    case 'sft': pass",
        "kinds = {'sft': 1}.get(recipe.stage)",
        "kinds = {'sft': 1}[recipe.stage]",
    ):
        assert len(list(choices(ast.parse(line)))) == 1, line
    for line in ("if recipe.zero.stage == 3: pass", "print(f'stage {recipe.stage}')"):
        assert list(choices(ast.parse(line))) == [], line


def test_every_stage_has_its_class() -> None:
    """Catches a name in the table that leads nowhere; each class answers all that the loop asks."""
    from trainer.stages import Stage

    asked = [name for name in vars(Stage) if not name.startswith("_")]
    assert asked
    for traits in STAGES.values():
        module, _, name = traits.implementation.rpartition(".")
        made = getattr(import_module(module), name)
        assert all(callable(getattr(made, question)) for question in asked), name
