"""A Hugging Face config.json as the recipe's model section."""

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.errors import CheckpointError
from trainer.hub.foreign import is_ours
from trainer.hugging_face import rope, windows
from trainer.hugging_face.quiet import quiet_transformers
from trainer.parsing import read_json
from trainer.recipe import Recipe
from trainer.recipe.model import ModelSection
from trainer.recipe.rope import readable_length

FILE = "config.json"
FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "ministral": "MinistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""The supported model types, and the class in transformers of each."""

ACTIVATIONS: dict[str, Literal["swiglu", "geglu", "geglu_tanh"]] = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu": "geglu",
    "gelu_pytorch_tanh": "geglu_tanh",
}
"""`model.activation` by transformers' `hidden_act`; of synonyms the first is written."""

_COUNTS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
)


@dataclass(frozen=True)
class ModelDescription:
    """A config.json: its `keys` unchanged, and the model section they give.

    `positions`: its max_position_embeddings; `sequence_length`: the longest text that the model is
    meant to read, more where its rotation stretches the positions; `layer_types`: of every layer,
    as transformers resolves them, where the family has such.
    """

    family: str
    keys: dict[str, Any]
    model: ModelSection
    positions: int
    layer_types: tuple[str, ...] | None

    @property
    def sequence_length(self) -> int:
        """Tokens of the longest text that the model is meant to read."""
        return readable_length(self.model.rope_scaling, self.positions)


def read_config(folder: Path) -> tuple[ModelDescription, bytes]:
    """A folder's config.json, parsed, and its bytes.

    Raises CheckpointError where it is missing, damaged, or of an unsupported model.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        if is_ours(folder):
            raise CheckpointError(
                f"{folder} is a checkpoint or a run already: name it where a checkpoint is wanted,"
                " or `lyceum export` makes a Hugging Face folder of it"
            ) from None
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}; name a folder as save_pretrained writes it,"
            " or a model of the hub as ORG/NAME"
        ) from None
    return describe(content, str(path)), content


def describe(content: bytes, where: str) -> ModelDescription:
    """Parse the content of a config.json; `where`: its name in errors.

    Raises CheckpointError for any key that our model cannot reproduce exactly.
    """
    try:
        keys = read_json(content)
    except ValueError as error:
        raise CheckpointError(f"{where} is damaged: {error}; fetch it again") from None
    if not isinstance(keys, dict):
        raise CheckpointError(f"{where} is damaged: it holds no object; fetch it again")
    family = _family(keys, where)
    config = _resolved(family, keys, where)
    _refuse_strange(config, where)
    window, pattern = windows.read_window(family, config, where)
    theta, scaling = rope.read_rope(config, where)
    model = ModelSection(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        ffn=config.intermediate_size,
        activation=ACTIVATIONS[config.hidden_act],
        vocab=config.vocab_size,
        head_size=_head_size(family, config, where),
        tied_embeddings=config.tie_word_embeddings,
        padding_token=_padding(config, where),
        window=window,
        window_pattern=pattern,
        qk_norm=family == "qwen3",
        qkv_bias=family == "qwen2",
        rope_theta=theta,
        rope_angles="fp32",
        rope_scaling=scaling,
        norm_eps=config.rms_norm_eps,
        init_std=config.initializer_range or 0.02,
    )
    types = getattr(config, "layer_types", None)
    return ModelDescription(
        family, keys, model, config.max_position_embeddings, tuple(types) if types else None
    )


def conversion_recipe(
    model: ModelSection, sequence_length: int, precision: str, run: str
) -> Recipe:
    """A minimal recipe for an imported model; its one step is never trained."""
    return Recipe.from_keys(
        {
            "run": run,
            "steps": 1,
            "sequence_length": sequence_length,
            "precision": precision,
            "model": model.model_dump(mode="json"),
            "batch": {"sequences": 1, "micro": 1},
            "optimizer": {"lr": 1e-5},
        }
    )


def _family(keys: dict[str, Any], where: str) -> str:
    family = keys.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(
            f"{where}: model_type is {family!r}; of those that are known "
            f"({', '.join(FAMILIES)}) choose a model"
        )
    architectures = keys.get("architectures") or [FAMILIES[family]]
    if not isinstance(architectures, list) or FAMILIES[family] not in architectures:
        raise CheckpointError(
            f"{where}: architectures is {architectures}, not {FAMILIES[family]}: it has another"
            " head; choose a language model"
        )
    for key, what in (("quantization_config", "quantized"), ("auto_map", "code of its own")):
        if keys.get(key):
            raise CheckpointError(
                f"{where}: {key} is set ({what}), which is not read; choose a plain model"
            )
    return str(family)


def _resolved(family: str, keys: dict[str, Any], where: str) -> Any:
    """The configuration as transformers reads it, with defaults and older spellings resolved."""
    from transformers import CONFIG_MAPPING

    try:
        with quiet_transformers():
            return CONFIG_MAPPING[family].from_dict(deepcopy(keys))  # it writes into it
    except Exception as error:  # its validators raise several types without a common base
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{where} is not a {family} configuration: {reason}") from None


def _refuse_strange(config: Any, where: str) -> None:
    if config.hidden_act not in ACTIVATIONS:
        raise CheckpointError(
            f"{where}: hidden_act is {config.hidden_act!r}, and {', '.join(ACTIVATIONS)} are"
            " computed; choose another model"
        )
    for key in _COUNTS:
        if getattr(config, key) < 1:
            raise CheckpointError(
                f"{where}: {key} is {getattr(config, key)}, and a model has at least 1; fetch the"
                " file again"
            )
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if heads % groups:
        raise CheckpointError(
            f"{where}: num_attention_heads is {heads}, not a multiple of num_key_value_heads,"
            f" {groups}; fetch the file again"
        )
    if not 0 < config.rms_norm_eps < math.inf:
        raise CheckpointError(
            f"{where}: rms_norm_eps is {config.rms_norm_eps}, and norms add a finite number above"
            " 0; fetch the file again"
        )
    for key in ("attention_bias", "mlp_bias"):
        if getattr(config, key, False):
            raise CheckpointError(
                f"{where}: {key} is true, and of biases only Qwen2's are computed; choose another"
                " model"
            )


def _padding(config: Any, where: str) -> int | None:
    """The padding token's row; transformers counts a negative one from the end."""
    token: int | None = config.pad_token_id
    if token is None:
        return None
    if not -config.vocab_size <= token < config.vocab_size:
        raise CheckpointError(
            f"{where}: pad_token_id is {token}, and there are {config.vocab_size} rows; set it to"
            " null, or to a token's id"
        )
    return token % int(config.vocab_size)


def _head_size(family: str, config: Any, where: str) -> int | None:
    width: int | None = getattr(config, "head_dim", None)
    usual = config.hidden_size / config.num_attention_heads
    unmade = width is None and hasattr(config, "head_dim") and family in ("qwen2", "ministral")
    if unmade or (width is not None and width < 1):
        raise CheckpointError(
            f"{where}: head_dim is {width}, with which transformers makes no {family}; set it to"
            f" hidden_size / num_attention_heads ({usual:g})"
        )
    return None if width is None or width == usual else width
