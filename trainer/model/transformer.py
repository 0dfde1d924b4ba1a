"""The language model: megatron-core's GPTModel with our layers, loss, and initialisation."""

from functools import partial
from typing import Any, Literal

import torch
from megatron.core import parallel_state
from megatron.core.transformer.transformer_block import (
    TransformerBlockSubmodules,
    get_num_layers_to_build,
)
from megatron.core.transformer.transformer_layer import get_transformer_layer_offset
from torch import Tensor

from trainer.model.embedding import convert_embedding
from trainer.model.initialize import initialize_weights
from trainer.model.layers import Norm, layer_spec
from trainer.model.lora.adapters import adapted, freeze_base, initialize_adapters
from trainer.model.offload import Offload
from trainer.model.output import PLAIN, AskedLogits, Targets, convert_output_layer
from trainer.model.sequence import SequenceLayout
from trainer.parallel.layout import Layout
from trainer.parallel.megatron import HiddenStatesModel, transformer_config
from trainer.parallel.sharding import describe_shardings
from trainer.recipe import Recipe
from trainer.recipe.loss import LossSection


class LanguageModel(HiddenStatesModel):
    """One rank's model chunk: its layers, and the embedding or the output head where it has them.

    Positions enter in attention (SequenceLayout), so megatron-core embeds tokens only.
    """

    def forward(
        self,
        tokens: Tensor,
        layout: SequenceLayout,
        labels: Tensor | None = None,
        *,
        reduction: Literal["none", "sum"] = "none",
        expected_gradient: Tensor | None = None,
        loss: LossSection = PLAIN,
        asked: AskedLogits | None = None,
        temperature: float = 1.0,
        entropy: bool = False,
    ) -> Tensor:
        """Hidden states between pipeline stages; losses or logits on the last.

        `tokens`, `labels`: int64 [batch, sequence / context]. With labels the last stage returns
        nats a token, fp32 [batch, sequence / context], or with `reduction` "sum" their sum, fp32
        []; without, logits [batch, sequence / context, vocab / tensor]. Other stages return
        [sequence / context, batch, hidden]. `expected_gradient` and `loss` as in `Targets`: a
        `loss` that is not plain returns two, fp32 [2] or [2, batch, sequence / context]. `asked`:
        the last stage returns what is read of these logits; without labels. `temperature` divides
        the logits; `entropy` as in `Targets`: fp32 [2, batch, sequence / context].
        """
        hidden = self.hidden_states(tokens, layout)
        if not self.post_process:
            return hidden
        targets = None
        if labels is not None:
            assert not entropy or (loss.plain and reduction == "none")
            targets = Targets(labels, reduction, expected_gradient, loss, entropy)
        weight = None
        if self.share_embeddings_and_output_weights:
            weight = self.shared_embedding_or_output_weight()
        if temperature != 1.0:
            # The output layer is linear: a loss that makes no logits has them divided too.
            hidden = hidden / temperature
        output: Tensor
        if asked is not None:
            output = self.output_layer(hidden, weight=weight, asked=asked)[0]
            return output
        output = self.output_layer(hidden, weight=weight, targets=targets)[0]
        if output.dim() < 2:
            return output
        return output.transpose(0, 1) if targets is None else output.transpose(-2, -1)


def build_model(recipe: Recipe, vocab: int, layout: Layout) -> list[LanguageModel]:
    """This rank's model chunks, one per virtual pipeline stage, initialised from the recipe's seed.

    The weights are the same at every layout: each depends on (seed, its global name) only. With
    `lora` only the adapters require gradients. `vocab`: rows of the embedding over all ranks.
    """
    config = transformer_config(recipe, layout)
    virtual = config.virtual_pipeline_model_parallel_size
    chunks = [
        _build_chunk(config, recipe, vocab, index if virtual else None)
        for index in range(virtual or 1)
    ]
    describe_shardings(chunks, layout)
    for chunk in chunks:
        initialize_weights(chunk, recipe)
        if recipe.lora is not None:
            initialize_adapters(chunk, recipe)
            freeze_base(chunk, recipe)
    if recipe.kernels.compile == "layer":
        from trainer.model.compiled import compile_layers

        compile_layers(chunks, recipe)
    return chunks


def _build_chunk(config: Any, recipe: Recipe, vocab: int, stage: int | None) -> LanguageModel:
    ends = {"ignore_virtual": stage is None, "vp_stage": stage}
    first = get_transformer_layer_offset(config, vp_stage=stage)
    offload = Offload() if recipe.offload == "activations" else None
    spec = TransformerBlockSubmodules(
        layer_specs=[
            layer_spec(config, recipe, layer, partial(adapted, recipe, layer), offload)
            for layer in range(first, first + get_num_layers_to_build(config, vp_stage=stage))
        ],
        layer_norm=Norm,
    )
    chunk = LanguageModel(
        config,
        spec,
        vocab_size=vocab,
        max_sequence_length=recipe.sequence_length,
        pre_process=parallel_state.is_pipeline_first_stage(**ends),
        post_process=parallel_state.is_pipeline_last_stage(**ends),
        share_embeddings_and_output_weights=recipe.model.tied_embeddings,
        position_embedding_type="none",
        vp_stage=stage,
    )
    if chunk.pre_process:
        convert_embedding(chunk.embedding.word_embeddings, config, recipe)
    if chunk.post_process:
        convert_output_layer(chunk.output_layer, recipe)
    for parameter in chunk.parameters():
        # bf16 weights accumulate their micro-batches' gradients in fp32 (trainer/README.md, D10).
        parameter.grad_dtype = torch.float32
    return chunk
