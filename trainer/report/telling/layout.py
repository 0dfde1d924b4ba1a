"""On what a run ran: its layout and the pipeline's schedule drawn, its checkpoints, its machine."""

from collections.abc import Sequence

import yaml

from trainer.checkpoint.folders import list_checkpoints
from trainer.report.page.blocks import Command, Drawing, Folded, PageBlock, PageSection, Prose
from trainer.report.page.table import DataTable
from trainer.report.plots.drawings import layout_drawing, schedule_drawing
from trainer.report.reading.run_record import RunRecord
from trainer.report.telling.commands import command_of, recipe_command
from trainer.report.telling.wording import count_of, size_of

_AXES = ("tensor", "pipeline", "virtual", "context")
_MOST_LISTED = 100


def layout_section(record: RunRecord) -> PageSection | None:
    """The layout and its schedule; None where the recipe does not tell one."""
    sizes = {axis: record.key(f"parallel.{axis}") for axis in _AXES}
    ranks = record.ranks
    if record.merge is not None or ranks is None:
        return None
    if not all(type(size) is int and size > 0 for size in sizes.values()):
        return None
    tensor, pipeline, virtual, context = sizes.values()
    data = ranks // (tensor * pipeline * context)
    layers = record.key("model.layers")
    blocks: list[PageBlock] = []
    try:
        drawn = layout_drawing(
            *(ranks, tensor, pipeline, virtual, context, data),
            record.ranks_a_node or ranks,
            layers if type(layers) is int and layers % (pipeline * virtual) == 0 else None,
        )
        blocks.append(Drawing(drawn, _axes_caption(record, data)))
    except ValueError as error:
        blocks.append(Prose(f"The layout cannot be drawn: {error}."))
    blocks += _schedule(record, pipeline, virtual, data)
    return PageSection("Layout: which rank holds what, and when it works", blocks)


def _axes_caption(record: RunRecord, data: int) -> str:
    stage = record.key("zero.stage")
    words = f"Precision {record.key('precision')}; recomputation: {record.key('recompute')}; ZeRO"
    words += f" stage {stage} over {data:,} replicas." if data > 1 else f" stage {stage}."
    return words


def _schedule(record: RunRecord, pipeline: int, virtual: int, data: int) -> list[Drawing | Prose]:
    rows, micro = record.key("batch.sequences"), record.key("batch.micro")
    if not (type(rows) is int and type(micro) is int and micro > 0 and data > 0):
        return []
    micro_batches = rows // (micro * data)
    if micro_batches < 1:
        return []
    batch = f"A step reads {rows:,} sequences of {record.key('sequence_length'):,} tokens"
    if pipeline == 1:
        times = f"{count_of(micro_batches, 'micro-batch')} of {micro:,} on each replica"
        times = times.replace("batchs", "batches")
        return [Prose(f"{batch}: {times}. There is one pipeline stage, so none waits.")]
    try:
        svg = schedule_drawing(pipeline, virtual, micro_batches)
    except ValueError as error:
        return [Prose(f"The schedule cannot be drawn: {error}.")]
    return [Drawing(svg, f"{batch}, in micro-batches of {micro:,}.")]


def checkpoints_section(record: RunRecord) -> PageSection | None:
    """The checkpoints that are kept, and the best of them; None without any."""
    listed = list_checkpoints(record.folder)
    if not listed:
        return None
    rows = [
        (
            one.step,
            size_of(one.bytes),
            one.problem or "whole",
            "yes" if one.best else None,
        )
        for one in listed[-_MOST_LISTED:]
    ]
    blocks: list[PageBlock] = []
    best = record.best
    if best is not None and best.best is not None:
        blocks.append(
            Prose(
                f"The best is that of step {best.best.step:,}: {best.figure} is"
                f" {best.best.value:.6g}, and {best.better} is better. It was promoted"
                f" {len(best.promotions)} times."
            )
        )
    kept = f"; the last {_MOST_LISTED} of {len(listed):,}" if len(listed) > _MOST_LISTED else ""
    columns = ("step", "size", "state", "best")
    return PageSection(
        "Checkpoints that are kept", [*blocks, DataTable(columns, rows, f"In {record.label}{kept}")]
    )


def reproduction_section(records: Sequence[RunRecord]) -> PageSection:
    """How to make each of these runs again, the oldest first, and on what they ran."""
    blocks: list[PageBlock] = []
    for record in records:
        command, note = command_of(record)
        if command:
            blocks.append(Command(command, f"{record.label} {note}"))
        else:
            blocks.append(Prose(f"{record.label}: {note}"))
        if record.merge is None:
            again = f"{record.label} again, from the recipe that it saved, in its working directory"
            blocks.append(Command(recipe_command(record), again))
    known = [record for record in records if record.environment]
    if known:
        blocks.append(environment_table(known))
    blocks += [_recipe_of(record) for record in records if record.keys]
    return PageSection("To make it again, and on what it ran", blocks)


def _recipe_of(record: RunRecord) -> Folded:
    text = yaml.safe_dump(dict(record.keys), sort_keys=False, allow_unicode=True)
    return Folded(f"The recipe of {record.label}, resolved", [Command(text, "recipe.yaml")])


def environment_table(records: Sequence[RunRecord]) -> DataTable:
    """Machine and versions of each run, as it was last started."""
    rows: list[list[str]] = []
    columns = [_environment(record) for record in records]
    for name in dict.fromkeys(name for one in columns for name in one):
        values = [one.get(name, "") for one in columns]
        if any(values):
            rows.append([name, *values])
    return DataTable(("what", *(record.label for record in records)), rows, "Machine and versions")


def _environment(record: RunRecord) -> dict[str, str]:
    environment = record.environment
    cpu, git = environment.get("cpu") or {}, environment.get("git") or {}
    found_gpus = environment.get("gpus")
    gpus = [str(one) for one in found_gpus] if isinstance(found_gpus, list) else []
    packages = environment.get("packages") or {}
    found = {
        "last started": environment.get("time"),
        "ranks": record.ranks,
        "GPUs of its node": ", ".join(
            f"{gpus.count(one)} \u00d7 {one}" for one in dict.fromkeys(gpus)
        ),
        "CPU": f"{cpu.get('name')}, {cpu.get('cores')} cores" if isinstance(cpu, dict) else cpu,
        "CUDA": environment.get("cuda"),
        "driver": environment.get("driver"),
        "platform": environment.get("platform"),
        "Python": environment.get("python"),
        "git": _revision(git),
        **(packages if isinstance(packages, dict) else {}),
    }
    return {name: "" if value is None else str(value) for name, value in found.items()}


def _revision(git: object) -> str:
    if not isinstance(git, dict) or not git.get("revision"):
        return ""
    return str(git["revision"])[:12] + (", with changes on top" if git.get("dirty") else "")
