"""`lyceum export CHECKPOINT FILE.gguf`: a checkpoint, saved at any layout, as one GGUF file."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, LlamaFileType
from torch import Tensor

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import saved_recipe, saved_tokenizer, trained_length
from trainer.data.tokenizer import Tokenizer
from trainer.errors import CheckpointError, RecipeError, TrainingError
from trainer.files import sync_folder
from trainer.gguf.card import CARD, card_keys
from trainer.gguf.distance import Distances
from trainer.gguf.model import GgufModel
from trainer.gguf.names import gguf_name, halved_rows, heads_interleaved
from trainer.gguf.other_readers import say_what_others_leave_unread
from trainer.gguf.rope_writing import add_rope
from trainer.gguf.vocabulary_writing import add_tokenizer
from trainer.hugging_face.config import FILE, ModelDescription, describe
from trainer.hugging_face.exporting import weights_of
from trainer.hugging_face.names import EMBEDDING, HEAD, TensorPart, tensor_map
from trainer.hugging_face.parity import CheckpointTensors, measure, report, require, rows_of
from trainer.hugging_face.small_files import small_files
from trainer.hugging_face.weights import check_weights
from trainer.recipe.model import ModelSection

GgufDtype = Literal["fp32", "bf16", "q8_0"]
KINDS: dict[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "fp32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
"""How matrices are stored, by the values of `--dtype`; vectors are fp32, as llama.cpp has them."""
_BLOCK_NUMBERS = 2 << 20


def export_gguf_command(checkpoint: Path, file: Path, kind: GgufDtype) -> None:
    """Write a checkpoint (a folder, or a run's newest) as `file`; read it back and check it.

    Adapters are merged into their base. Raises CheckpointError for a damaged checkpoint, a model or
    tokenizer that a GGUF file cannot hold, a `file` that exists, or failed parity; RecipeError for
    a `file` that cannot be made; TrainingError for a failed write.
    """
    partial_file = _begin(file)
    reader = CheckpointReader(resolve_checkpoint(checkpoint))
    weights = weights_of(reader)
    recipe, tokenizer = saved_recipe(reader), saved_tokenizer(reader)
    tied = f"model/{HEAD}" not in weights.keys()  # noqa: SIM118 (no mapping)
    rows = weights.shape(f"model/{EMBEDDING}")[0]
    own = {"vocab": rows, "padding_rows": 0, "tied_embeddings": tied}
    model = recipe.model.model_copy(update=own)
    check_weights(weights, tensor_map(model), str(reader.folder))
    resolved = recipe.model_copy(update={"model": model})
    small = small_files(reader, resolved, torch.float32, tokenizer)
    described = describe(small[FILE], str(reader.folder / FILE))
    _refuse(model, kind)
    say_what_others_leave_unread(described.family, model)
    said = card_keys(small[CARD], trained=reader.step > 0) if CARD in small else {}
    rounded = RoundedWeights(weights, KINDS[kind][0])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        distances = _write(partial_file, described, model, tokenizer, rounded, kind, said)
        written = GgufModel(partial_file)
        _require_same_tokens(written.tokenizer, tokenizer)
        source = written.tensors()
        parity = measure(written.described, model, rounded, source, trained=trained_length(reader))
        report(parity, f"{reader.folder} -> {file}", described.family, source)
        require(parity, reader.folder, None)
        distances.show()
        os.rename(partial_file, file)
        sync_folder(file.parent)
    except OSError as error:
        raise TrainingError(f"{file} cannot be written: {error.strerror}; name another") from None
    finally:
        partial_file.unlink(missing_ok=True)


def _begin(file: Path) -> Path:
    """Where `file` is written first; raises as `export_gguf_command` does."""
    above = next(parent for parent in file.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RecipeError(f"{file}: cannot be made, as {above} is a file; name another file")
    if file.exists():
        raise CheckpointError(f"{file} exists; name a new file")
    return file.with_name(f"{file.name}.{os.getpid()}.partial")


class RoundedWeights:
    """A checkpoint's weights as they are read back from a file that stores matrices as `kind`."""

    def __init__(self, weights: CheckpointTensors, kind: GGMLQuantizationType) -> None:
        self.exact, self.kind = weights, kind

    def keys(self) -> list[str]:
        """The names of the tensors."""
        return self.exact.keys()

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's global shape."""
        return self.exact.shape(key)

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of the tensors that `read` returns."""
        return torch.float32

    def read(
        self, key: str, offset: tuple[int, ...] | None = None, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """A tensor, or its block of whole rows of this shape at `offset`, as fp32."""
        values = self.exact.read(key, offset, shape).float()
        return values if values.dim() == 1 else torch.from_numpy(self.both(values)[1])

    def both(self, values: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Rows as they are stored, and as they are read again."""
        stored = gguf.quantize(values.contiguous().numpy(), self.kind)
        return stored, gguf.dequantize(stored, self.kind)


def _refuse(model: ModelSection, kind: GgufDtype) -> None:
    """Raise for a model that llama.cpp's architectures do not compute, or do not store so."""
    if model.activation != "swiglu":
        raise CheckpointError(
            f"model.activation is {model.activation}, and a GGUF file means swiglu; export a"
            " Hugging Face folder"
        )
    block = gguf.GGML_QUANT_SIZES[KINDS[kind][0]][0]
    for joined in tensor_map(model):
        for part in joined.parts:
            if len(part.shape) > 1 and part.shape[-1] % block:
                raise RecipeError(
                    f"--dtype {kind}: holds blocks of {block} numbers, and the rows of {part.name}"
                    f" have {part.shape[-1]}; use bf16"
                )


def _write(
    path: Path,
    described: ModelDescription,
    model: ModelSection,
    tokenizer: Tokenizer,
    weights: RoundedWeights,
    kind: GgufDtype,
    said: dict[str, str],
) -> Distances:
    """Write the file, a tensor in memory at a time; returns how far its numbers are from ours.

    `said`: metadata of whose model it is.
    """
    family = described.family
    architecture = family if family.startswith("qwen") else "llama"
    writer = gguf.GGUFWriter(path, architecture)
    try:
        for key, text in said.items():
            writer.add_string(key, text)
        factors = _add_metadata(writer, described, model, tokenizer, kind)
        parts = list(_parts(model))
        for name, values in factors.items():
            writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
        for _key, part in parts:
            _add_info(writer, part, weights.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for values in factors.values():
            writer.write_tensor_data(values)
        distances = Distances()
        for key, part in parts:
            heads = heads_interleaved(part.name, architecture, model)
            writer.write_tensor_data(_stored(weights, key, part, heads, distances))
        writer.flush()
    finally:
        writer.close()
    return distances


def _add_metadata(
    writer: gguf.GGUFWriter,
    described: ModelDescription,
    model: ModelSection,
    tokenizer: Tokenizer,
    kind: GgufDtype,
) -> dict[str, np.ndarray]:
    assert model.vocab is not None and model.ffn is not None
    writer.add_type("model")
    writer.add_file_type(KINDS[kind][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(model.vocab)
    writer.add_context_length(described.positions)
    writer.add_embedding_length(model.hidden)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.ffn)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.query_groups)
    writer.add_key_length(model.head_width)
    writer.add_value_length(model.head_width)
    writer.add_layer_norm_rms_eps(model.norm_eps)
    if model.window is not None:
        writer.add_sliding_window(model.window)
        local = [window is not None for window in model.windows]
        if writer.arch != "llama" or not all(local):
            writer.add_sliding_window_pattern(local)
    add_tokenizer(writer, tokenizer, model.vocab)
    return add_rope(writer, model)


def _parts(model: ModelSection) -> Iterator[tuple[str, TensorPart]]:
    """The tensors of the file in order, each with the key of ours that it is a part of."""
    for joined in tensor_map(model):
        for part in joined.parts:
            yield f"model/{joined.name}", part


def _add_info(writer: gguf.GGUFWriter, part: TensorPart, kind: GGMLQuantizationType) -> None:
    if len(part.shape) == 1:
        writer.add_tensor_info(
            gguf_name(part.name), part.shape, np.dtype(np.float32), 4 * part.shape[0]
        )
        return
    shape = gguf.quant_shape_to_byte_shape(part.shape, kind)
    nbytes = int(np.prod(shape))
    writer.add_tensor_info(gguf_name(part.name), shape, np.dtype(np.uint8), nbytes, kind)


def _stored(
    weights: RoundedWeights, key: str, part: TensorPart, heads: int, distances: Distances
) -> np.ndarray:
    """A tensor as the file has it, its rows in llama.cpp's order; measures it on the way."""
    read = partial(rows_of, weights.exact, key)
    values = part.take(read, weights.exact.dtype(key))
    if len(part.shape) == 1:
        return values.float().numpy()
    if heads:
        values = values[halved_rows(part.shape[0], heads)]
    stored = []
    step = max(1, _BLOCK_NUMBERS // part.shape[-1])
    for first in range(0, part.shape[0], step):
        exact = values[first : first + step].float()
        bytes_, again = weights.both(exact)
        distances.add(gguf_name(part.name), exact, torch.from_numpy(again))
        stored.append(bytes_.view(np.uint8))
    return np.concatenate(stored)


_TEXTS = (
    *("The cat's 12 mats cost $3.40; they'll sell 1999 of them.", "  two\n\n\tlines  \r\n end "),
    *("naïve Straße, ДОМ и मनुष्य", "東京は人口1,400万人です。", "e\u0301 \U0001f642 <0x0A> ▁"),
    *("def f(x):\n    return x ** 2  # why?", "CamelCaseWords and ALLCAPS don't SPLIT'S"),
)


def _require_same_tokens(read: Tokenizer, ours: Tokenizer) -> None:
    """Raise CheckpointError where the tokenizer that was read back makes other tokens of a text."""
    specials = "".join(f" {token} x" for token in list(ours.added_tokens)[:64])
    for text in (*_TEXTS, specials, ours.chat_template or ""):
        same = read.encode(text) == ours.encode(text)
        if not same or read.encode_rendered(text) != ours.encode_rendered(text):
            raise CheckpointError(
                f"the tokenizer read back from the GGUF file makes other tokens of {text[:40]!r}; a"
                " GGUF file cannot hold it: export a Hugging Face folder"
            )
    if (read.start, read.ends) != (ours.start, ours.ends):
        raise CheckpointError(
            "the tokenizer read back from the GGUF file begins or ends texts otherwise; a GGUF file"
            " cannot hold it: export a Hugging Face folder"
        )
