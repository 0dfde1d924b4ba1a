"""The bare loop: what a good engineer writes in an afternoon for one device, and our yardstick.

The recipe's Llama architecture (Touvron et al., arXiv:2302.13971) as a plain nn.Module, and
torch.optim.AdamW around it: no framework, no parallelism, no checkpoints. Parameters carry the
names of transformers' LlamaForCausalLM, so that its weights load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn

from trainer.errors import RecipeError
from trainer.recipe import Recipe
from trainer.recipe.model import ModelSection
from trainer.recipe.optimizer import OptimizerSection

IGNORE = -100  # label of padding


def rope_frequencies(config: ModelSection) -> torch.Tensor:
    """Gives the angle a position of each rotated pair, [head_size / 2] in fp32."""
    exponent = torch.arange(0, config.head_width, 2).float() / config.head_width
    frequency = 1.0 / config.rope_theta**exponent
    scaling = config.rope_scaling
    if scaling is None:
        return frequency
    turns = scaling.original_context * frequency / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequency + (1 - kept) * frequency / scaling.factor


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotates [rows, heads, sequence, head_size]; pair i is (i, i + head_size / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class BareAttention(nn.Module):
    """Grouped-query attention with rotary positions; `mask` says who sees whom (none: causal)."""

    def __init__(self, config: ModelSection) -> None:
        super().__init__()
        self.config = config
        queries, keys = config.heads * config.head_width, config.query_groups * config.head_width
        self.q_proj = nn.Linear(config.hidden, queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden, keys, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.hidden, bias=False)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(config.head_width, config.norm_eps)
            self.k_norm = nn.RMSNorm(config.head_width, config.norm_eps)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None, rope: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Maps [rows, sequence, hidden] to the same shape."""
        rows, sequence, _ = x.shape
        size = self.config.head_width
        q = self.q_norm(self.q_proj(x).view(rows, sequence, -1, size)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(rows, sequence, -1, size)).transpose(1, 2)
        v = self.v_proj(x).view(rows, sequence, -1, size).transpose(1, 2)
        q, k = rotate(q, *rope).type_as(v), rotate(k, *rope).type_as(v)
        grouped = self.config.query_groups != self.config.heads
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(rows, sequence, -1))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer, arXiv:2002.05202)."""

    def __init__(self, config: ModelSection) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [rows, sequence, hidden] to the same shape."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One pre-norm layer."""

    def __init__(self, config: ModelSection) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden, config.norm_eps)
        self.self_attn = BareAttention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None, rope: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Maps [rows, sequence, hidden] to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), mask, rope)
        return x + self.mlp(self.post_attention_layernorm(x))


class BareModel(nn.Module):
    """The whole model: ids in, logits out; `config`: a recipe's, its vocabulary known."""

    cosine: torch.Tensor
    sine: torch.Tensor

    def __init__(self, config: ModelSection, sequence_length: int) -> None:
        super().__init__()
        assert config.vocab is not None
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden, config.vocab, bias=False)
        angles = torch.outer(torch.arange(sequence_length).float(), rope_frequencies(config))
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # What writes into the residual stream starts smaller, as it is summed over layers.
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = config.init_std / (math.sqrt(2 * config.layers) if residual else 1.0)
                nn.init.normal_(parameter, std=std)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)
        if config.tied_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Gives logits [rows, sequence, vocabulary] for ids and positions [rows, sequence]."""
        document = (position_ids == 0).cumsum(dim=1)
        mask = (document[:, :, None] == document[:, None, :]).tril()[:, None]
        rope = (self.cosine[position_ids][:, None], self.sine[position_ids][:, None])
        return self.lm_head(self.norm(self._layers(tokens, mask, rope)))

    def hidden_states(self, tokens: torch.Tensor) -> torch.Tensor:
        """Gives what the last norm reads, [rows, sequence, hidden]; a row is one document."""
        length = tokens.shape[1]
        return self._layers(tokens, None, (self.cosine[:length], self.sine[:length]))

    def _layers(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor | None,
        rope: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, mask, rope)
        return x


def bare_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], keys: OptimizerSection
) -> torch.optim.AdamW:
    """Gives torch's fused AdamW over the parameters, with the recipe's decay groups.

    Every Llama's input embedding has "embed" in its name; a tied head is the same parameter.
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in named:
        embedding = "embed" in name
        bias = name.endswith(".bias")
        norm = parameter.dim() == 1 and not bias
        decayed = (
            (keys.decay_norms or not norm)
            and (keys.decay_biases or not bias)
            and (keys.decay_embeddings or not embedding)
        )
        groups[decayed].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": keys.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=keys.lr,
        betas=keys.betas,
        eps=keys.eps,
        fused=True,
    )


BareRows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # tokens, labels, position_ids


def bare_step(
    model: BareModel, optimizer: torch.optim.AdamW, rows: BareRows, recipe: Recipe
) -> torch.Tensor:
    """Takes one optimizer step on rows [global batch, sequence]; gives the loss, nats a token, [].

    The host never waits for the device in it.
    """
    bf16 = recipe.precision == "bf16"

    def loss_sum(
        tokens: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bf16):
            logits = model(tokens, positions)
        return F.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
        )

    optimizer.zero_grad(set_to_none=True)
    total = accumulate_gradients(loss_sum, rows, recipe.batch.micro)
    if recipe.optimizer.clip:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip)
    optimizer.step()
    return total


def accumulate_gradients(
    loss_sum: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    rows: BareRows,
    micro: int,
) -> torch.Tensor:
    """Adds up the gradients of all rows, `micro` at a time; gives the loss, nats a token, [].

    `loss_sum`: of tokens, labels and positions, the sum of their losses in nats, [].
    """
    supervised = (rows[1] != IGNORE).sum()
    total = torch.zeros((), device=rows[0].device)
    for start in range(0, len(rows[0]), micro):
        tokens, labels, positions = (part[start : start + micro] for part in rows)
        loss = loss_sum(tokens, labels, positions) / supervised
        loss.backward()
        total += loss.detach()
    return total


def beyond_bare(model: ModelSection) -> list[str]:
    """The keys of a model section that neither the bare model nor a peer's has, as model.NAME."""
    beyond = model.changed(
        *("window", "attention_scale", "softmax", "activation", "rope_interleaved", "norm"),
        "zero_centered_norms",
    )
    scaling = model.rope_scaling
    return beyond + (["model.rope_scaling.type"] if scaling and scaling.type != "llama3" else [])


def bare_model(recipe: Recipe, vocab: int, device: torch.device) -> BareModel:
    """The recipe's architecture with weights drawn from its seed; RecipeError where it has none."""
    beyond = beyond_bare(recipe.model) + ([] if recipe.loss.plain else ["loss"])
    if beyond:
        raise RecipeError(
            f"{', '.join(beyond)}: the bare loop that ours is compared with has no such model;"
            " leave it out of a benchmark's recipe"
        )
    torch.manual_seed(recipe.seed)
    with device:
        return BareModel(recipe.model.model_copy(update={"vocab": vocab}), recipe.sequence_length)
