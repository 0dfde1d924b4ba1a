"""Folders of other programs that stand where a checkpoint of ours is wanted."""

from pathlib import Path

from trainer.hub.names import model_name, page_of

ADAPTER = "adapter_config.json"
_CHECKPOINT, _RUN = "checkpoint.json", "checkpoints"


def is_ours(path: Path) -> bool:
    """Whether a folder is a checkpoint or a run of ours."""
    return (path / _CHECKPOINT).exists() or (path / _RUN).is_dir()


def names_gguf(name: str | Path) -> bool:
    """Whether a file's name ends as those of GGUF files do, in small letters or in capitals."""
    return str(name).lower().endswith(".gguf")


def checkpoint_of(path: Path) -> str | None:
    """How to make a checkpoint of what `path` names instead, as words behind it; None: unknown.

    That is a model's or an adapter's folder in Hugging Face's form, a file, or a model of the hub.
    """
    if path.is_file():
        return _of_file(path)
    if is_ours(path):
        return None
    if (path / ADAPTER).is_file():
        return (
            f"is a LoRA adapter in PEFT's form: run `lyceum import {path} RUN --base BASE`, and"
            " name that RUN"
        )
    if (path / "config.json").is_file():
        return f"is a Hugging Face model folder: run `lyceum import {path} RUN`, and name that RUN"
    if path.exists():
        return None
    page = page_of(path)
    named = model_name(path) if page is None else page
    if named is not None:
        name = named if isinstance(named, str) else named.text
        return (
            "does not exist; name a checkpoint or a run (a model of the Hugging Face hub becomes"
            f" one by `lyceum import {name} RUN`)"
        )
    return None


def _of_file(path: Path) -> str:
    parent = path.parent
    if is_ours(parent):
        return f"is a file; name its checkpoint's folder, {parent}"
    if names_gguf(path):
        return f"is a GGUF file: run `lyceum import {path} RUN`, and name that RUN"
    inside = checkpoint_of(parent)
    return f"is a file in {parent}, which {inside}" if inside else "is a file; name a run's folder"
