"""The tensors of a PEFT adapter: which module each belongs to, and whether they fit a base."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.hugging_face.reading import SAFETENSORS_DTYPES
from trainer.recipe.lora import TABLES, LoraSection, adapter_shapes
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, modules

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"

_PREFIX = "base_model.model."
_ADAPTER = re.compile(r"(?P<module>.+)\.lora_(?:(?P<of>[AB])\.weight|embedding_(?P<row>[AB]))")
_MISNAMED = re.compile(r"\.lora_(?:[AB](?:\.\w+)?\.weight|embedding_[AB](?:\.\w+)?)$")
"""Of a matrix whose name has no prefix, or has the name of an adapter inside PEFT in it."""
_BASE = re.compile(r"(?P<module>.+)\.base_layer\.(?P<kind>weight|bias)")
_ORIGINAL = re.compile(r"(?P<module>.+)\.original_module\.(?P<kind>weight|bias)")
_WHOLE = re.compile(r"(?P<module>.+?)(?:\.modules_to_save)?\.(?P<kind>weight|bias)")


@dataclass
class AdapterFile:
    """adapter_model.safetensors, opened: tensor names by what they are.

    `adapters`: by (module, "A" or "B"); `whole`: of modules that are saved whole, by the name of
    the weight or bias; `copies`: of the base's own weights, by the same. What a module that is
    saved whole stands for (`original_module`, which PEFT saves of a resized table) is passed over.
    """

    path: Path
    adapters: dict[tuple[str, str], str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> "AdapterFile":
        """Read the header; raises CheckpointError where it is missing, damaged or another's."""
        found = cls(folder / WEIGHTS)
        if not found.path.is_file():
            why = f"holds no {WEIGHTS}"
            if (folder / PICKLED).is_file():
                why = f"holds {PICKLED}, whose pickle could run code, and no {WEIGHTS}"
            raise CheckpointError(
                f"{folder}: {why}; load it with PEFT where you trust it, and save_pretrained writes"
                " that"
            )
        try:
            with safe_open(found.path, framework="pt") as file:
                names = sorted(file.keys())
                for name in names:
                    tensor = file.get_slice(name)
                    found._add(name, tuple(tensor.get_shape()), tensor.get_dtype(), names)
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{found.path} is damaged: {reason}; fetch it again") from None
        return found

    def _add(self, name: str, shape: tuple[int, ...], dtype: str, names: list[str]) -> None:
        if dtype not in SAFETENSORS_DTYPES:
            raise CheckpointError(f"{self.path}: {name} is of type {dtype}, which is not read")
        self.shapes[name], self.dtypes[name] = shape, SAFETENSORS_DTYPES[dtype]
        local = name.removeprefix(_PREFIX)
        if local != name:
            if match := _ADAPTER.fullmatch(local):
                self.adapters[match["module"], match["of"] or match["row"]] = name
                return
            if match := _BASE.fullmatch(local):
                self.copies[f"{match['module']}.{match['kind']}"] = name
                return
            if match := _ORIGINAL.fullmatch(local):
                module, kind = match["module"], match["kind"]
                if f"{_PREFIX}{module}.{kind}" in names:
                    return
            elif (match := _WHOLE.fullmatch(local)) and "lora_" not in local:
                key = f"{match['module']}.{match['kind']}"
                # A resized table that trained is there twice; PEFT reads it by the shorter name.
                if key == local or f"{_PREFIX}{key}" not in names:
                    self.whole[key] = name
                return
        if _MISNAMED.search(name):
            raise CheckpointError(
                f"{self.path}: holds {name}, which is not as PEFT names it when it saves, and would"
                f" not be read by it; name it {_PREFIX}MODULE.lora_A.weight"
            )
        raise CheckpointError(
            f"{self.path}: holds {name}, which is not computed here; merge the adapter with PEFT,"
            " and import the model"
        )

    def read(self, name: str) -> Tensor:
        """A tensor by its name in the file."""
        with safe_open(self.path, framework="pt") as file:
            values: Tensor = file.get_tensor(name)
        return values

    def modules_to_save(self) -> list[str]:
        """The modules that are there whole."""
        return list(dict.fromkeys(name.rpartition(".")[0] for name in self.whole))

    def check(self, lora: LoraSection, model: ModelSection) -> None:
        """Raise CheckpointError unless it holds exactly the adapters of `lora`, for this base."""
        expected: dict[tuple[str, str], tuple[int, int]] = {}
        for name, rank, inputs, outputs in adapter_shapes(lora, model):
            expected[name, "A"], expected[name, "B"] = (rank, inputs), (outputs, rank)
        strangers = [self.adapters[key] for key in self.adapters if key not in expected]
        if strangers:
            raise CheckpointError(
                f"{self.path}: holds {strangers[0]}, which its configuration does not adapt in this"
                " base; it belongs to another"
            )
        for key, shape in expected.items():
            if key not in self.adapters:
                raise CheckpointError(
                    f"{self.path}: holds no lora_{key[1]} of {key[0]}, which its configuration"
                    " adapts in this base; it belongs to another, or was not saved whole"
                )
            found = self.shapes[self.adapters[key]]
            if found != shape:
                resized = self._resized(key[0], model)
                raise CheckpointError(
                    f"{self.path}: {self.adapters[key]} has shape {list(found)}, and this base asks"
                    f" for {list(shape)}; {resized or 'it belongs to another'}"
                )
        known = {name for _ours, names in modules(model) for name in names} | set(TABLES)
        for name in self.modules_to_save():
            if name not in known:
                raise CheckpointError(
                    f"{self.path}: holds {name} whole, which this base does not have; it belongs to"
                    " another"
                )

    def _resized(self, name: str, model: ModelSection) -> str | None:
        """What to do where an adapter is of a table that was resized before, as words."""
        copy = self.copies.get(f"{name}.weight")
        if copy is None or self.shapes[copy][0] == model.vocab or name not in TABLES:
            return None
        return (
            f"the base was resized to {self.shapes[copy][0]} rows: give that base with --base, or"
            " merge the adapter with PEFT, and import the model"
        )

    def vocabulary(self, model: ModelSection) -> int:
        """Rows of the embedding with the adapter: the base's, or more where it was resized."""
        assert model.vocab is not None, "a saved model has it"
        rows = {
            name: self.shapes[self.whole[f"{name}.weight"]][0]
            for name in TABLES
            if f"{name}.weight" in self.whole
        }
        other = {name: found for name, found in rows.items() if found != model.vocab}
        if not other:
            return model.vocab
        alone = len(rows) < len(TABLES) and not model.tied_embeddings
        if alone or len(set(rows.values())) > 1:
            raise CheckpointError(
                f"{self.path}: embed_tokens and lm_head have other numbers of rows"
                f" ({', '.join(f'{name} {found}' for name, found in rows.items())}; the base"
                f" {model.vocab}); save both with the adapter"
            )
        return next(iter(rows.values()))

    def embedding_copy(self) -> str | None:
        """The copy of the base's embedding that PEFT saves beside an adapter of it, if there is."""
        return self.copies.get(f"{EMBEDDING}.weight")
