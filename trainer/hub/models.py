"""A model's or a tokenizer's folder, fetched from the hub where there is none of that name here."""

from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.errors import DataError
from trainer.hub.foreign import names_gguf
from trainer.hub.names import HubName, model_name
from trainer.hub.snapshots import fetch
from trainer.parsing import read_json

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
NAMED_TEMPLATES = "additional_chat_templates/"
_SMALL = (".json", ".jinja", ".txt", ".model", ".md")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def model_folder(folder: Path) -> Path:
    """The folder itself, or that of the hub's model `org/name`; one that is here comes first.

    Fetched are the safetensors and small files beside them. Raises DataError as `fetch` does, and
    for a model without safetensors or without tokenizer.json.
    """
    name = model_name(folder)
    if name is None:
        return folder
    return fetch(name, _model_files(name))[0]


def tokenizer_folder(folder: str | Path) -> Path:
    """As `model_folder`, but only a tokenizer's files are fetched."""
    name = model_name(folder)
    if name is None:
        return Path(folder)
    return fetch(name, lambda names, _read: [file for file in names if _is_small(file)])[0]


def _model_files(name: HubName) -> Callable[[Sequence[str], Callable[[str], bytes]], list[str]]:
    def choose(names: Sequence[str], read: Callable[[str], bytes]) -> list[str]:
        small = [file for file in names if _is_small(file)]
        if (ONE_FILE in names or INDEX in names) and TOKENIZER not in names:
            # Found out before gigabytes of weights are fetched.
            raise DataError(
                f"{name.text}: holds no {TOKENIZER}; load its tokenizer with transformers and"
                " save_pretrained, beside the weights, and import that folder"
            )
        if ONE_FILE in names:
            return [*small, ONE_FILE]
        if INDEX in names:
            try:
                listed = set(read_json(read(INDEX))["weight_map"].values())
            except (ValueError, KeyError, AttributeError, TypeError):
                raise DataError(f"{name.text}: {INDEX} is damaged there; name another") from None
            return [*small, *(file for file in names if file in listed)]
        if _ADAPTER[0] in names:
            return [*small, *(file for file in names if file in _ADAPTER)]
        packed = [file for file in names if names_gguf(file)]
        if packed:
            raise DataError(
                f"{name.text}: holds GGUF files ({packed[0]}) and no {ONE_FILE}; fetch the one that"
                " you mean, and name the file"
            )
        pickled = [file for file in names if file.endswith((".bin", ".pth", ".pt", ".ckpt"))]
        only = f", only {pickled[0]}, which could run code" if pickled else ""
        raise DataError(
            f"{name.text}: holds no {ONE_FILE}{only}; name a model with safetensors, or load it"
            " with transformers where you trust it and save_pretrained"
        )

    return choose


def _is_small(file: str) -> bool:
    """Whether a file is one of those that stand beside weights: configuration, words, licences."""
    top = "/" not in file or file.startswith(NAMED_TEMPLATES)
    known = file.endswith(_SMALL) or file.upper().startswith(("LICENSE", "NOTICE", "USE_POLICY"))
    return top and known
