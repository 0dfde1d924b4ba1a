"""Imports run downward only; read with ast, nothing imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top of the house to its ground; a module may import what stands in its own row or below.
FLOORS = [
    {"trainer.cli", "trainer.__main__"},
    {"trainer.demo"},
    {"trainer.bench", "trainer.doctor", "trainer.compare", "trainer.report", "launch.fuzz"},
    {"launch"},
    {
        "trainer.loop",
        "trainer.events",
        "trainer.finished_steps",
        "trainer.rollback",
        "trainer.saving",
        "trainer.shared_folder",
        "trainer.examiner",
        "trainer.frozen",
        "trainer.watch",
        "trainer.run",
        "trainer.early_watch",
        "trainer.own_sets",
        "trainer.start",
        "trainer.resolve",
        "trainer.resume",
        "trainer.restore",
    },
    {"trainer.plan", "trainer.plan.show"},
    {"trainer.stages", "trainer.trace"},
    {"trainer.honesty"},
    {"trainer.questions"},
    {"trainer.evaluate", "trainer.hugging_face", "trainer.gguf", "trainer.merging"},
    {"trainer.sources", "trainer.mixture_folders"},
    {
        "trainer.demo.clean_docstrings",
        "trainer.demo.documentation",
        "trainer.demo.docstrings",
        "trainer.demo.packages",
    },
    {"trainer.checkpoint", "trainer.recovery"},
    {"trainer.model", "trainer.data", "trainer.corpus", "trainer.conversations"},
    {"trainer.parallel"},
    {
        "trainer.recipe",
        "trainer.hub",
        "trainer.report.plots",
        "trainer.report.page",
        "trainer.addresses",
        "trainer.errors",
        "trainer.files",
        "trainer.parsing",
        "trainer.collector",
        "trainer",
    },
]
OBSERVE = "trainer.observe"
SCHEDULES_AND_STOCK = ("trainer.doctor.pipelines", "trainer.bench.peers.stock")
WATCHERS = {
    *("trainer.loop", "trainer.events", "trainer.watch", "trainer.early_watch"),
    "trainer.bench.plot_run",
}


def sources(*packages: str) -> Iterator[tuple[str, Path]]:
    """Every module of these packages, by dotted name."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that this file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def heavy_at_import(path: Path) -> set[str]:
    """Packages that this file imports when it is imported itself, except for type checkers."""
    found = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        pending.extend(ast.iter_child_nodes(node))
    return found


def floor(module: str) -> int | None:
    """Which row of FLOORS a module stands in; None for other people's modules and observe."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for number, names in enumerate(FLOORS):
            if name in names and (
                name != "trainer" or parts in (["trainer"], ["trainer", "__version__"])
            ):
                return number
    return None


def upward(module: str, path: Path) -> list[str]:
    """The imports of this module that go up."""
    here = floor(module)
    assert here is not None, f"{module} has no place in FLOORS"
    above = [name for name in imports(path) if (there := floor(name)) is not None and there < here]
    return [f"{module} imports {name}" for name in above]


def test_imports_run_downward() -> None:
    """Catches a lower part that comes to know an upper one: the beginning of a knot."""
    wrong = [
        line
        for module, path in sources("trainer", "launch")
        if not module.startswith(OBSERVE)
        for line in upward(module, path)
    ]
    assert wrong == []


def test_observe_is_imported_by_the_loop_alone() -> None:
    """Catches what watches becoming part of what is watched."""
    users = {
        module
        for module, path in sources("trainer", "launch", "kernels")
        if not module.startswith(OBSERVE)
        and any(name.startswith(OBSERVE) for name in imports(path))
    }
    assert users <= WATCHERS


def test_kernels_know_nothing_of_the_trainer() -> None:
    """Catches a kernel that cannot be used or measured by itself."""
    for module, path in sources("kernels"):
        wrong = [name for name in imports(path) if name.partition(".")[0] in {"trainer", "launch"}]
        assert wrong == [], module


def test_operators_benchmarks_gate_and_command_form_no_circle() -> None:
    """Catches a benchmark that needs the gate, which reads its cases, or a kernel that does."""
    above = {
        "kernels.bench": ("kernels.gate", "kernels.command"),
        "kernels.gate": ("kernels.command",),
        "kernels": ("kernels.bench", "kernels.gate", "kernels.command"),
    }
    for module, path in sources("kernels"):
        layer = next(name for name in above if module.startswith(name))
        if module != "kernels.command":
            wrong = [name for name in imports(path) if name.startswith(above[layer])]
            assert wrong == [], module


@pytest.mark.parametrize("package", ["megatron", "deepspeed"])
def test_engines_are_entered_where_the_plan_says(package: str) -> None:
    """Catches megatron-core's and DeepSpeed's names spreading through the house."""
    allowed = {
        "megatron": ("trainer.parallel", "trainer.model", *SCHEDULES_AND_STOCK),
        "deepspeed": ("trainer.parallel",),
    }[package]
    for module, path in sources("trainer", "launch"):
        if not module.startswith(allowed):
            assert package not in {name.partition(".")[0] for name in imports(path)}, module


def test_command_and_recipe_import_nothing_heavy() -> None:
    """Catches `lyceum --help` and `--show` waiting for torch."""
    light = ("trainer.cli", "trainer.recipe")
    heavy = {"torch", "transformers", "megatron", "deepspeed", "webdataset", "numpy", "tokenizers"}
    for module, path in sources("trainer", "launch"):
        if module.startswith((*light, "trainer.errors", "trainer.plan.show", "launch")):
            assert not heavy & heavy_at_import(path), module


def test_an_upward_import_would_be_found(tmp_path: Path) -> None:
    """Negative control: the check sees imports inside functions, of modules and of names."""
    path = tmp_path / "layout.py"
    path.write_text("def f():\n    from trainer import loop\n    import trainer.recipe.load\n")
    assert upward("trainer.parallel.layout", path) == [
        "trainer.parallel.layout imports trainer.loop"
    ]
    assert heavy_at_import(path) == set()
