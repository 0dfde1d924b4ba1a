"""The memory of a training step by formula: weights, optimizer states, and saved activations.

What autograd saves is that of our own model on our own operators: `device` "cuda" means the Triton
kernels, which save the least they can; "cpu" their PyTorch references, whose autograd saves more.
In bytes, of the rank that needs most; the allocator's rounding comes on top. Gradients and the
optimizer's states are those of what learns; adapters that only some layers have count as spread
over all. Left out: attention by the reference (kernels.attention, and model.softmax off_by_one on a
CPU), and what torch.compile keeps. The figures for GPUs were never compared with one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.plan.activations import (
    ActivationSizes,
    Device,
    final_norm_kept,
    layer_kept,
    shared_kept,
)
from trainer.plan.size import adapter_count, parameter_count, trained_count
from trainer.recipe.kernels import fused_loss
from trainer.recipe.recipe import Recipe
from trainer.recipe.shape import block_linears

_MASTER, _MOMENTS, _AVERAGE, _GRADIENT = 4, 8, 4, 4  # bytes a parameter, all fp32

CHUNK_BYTES = 2**29
"""Size of the chunk of logits that the fused loss holds (kernels.linear_cross_entropy)."""

BUCKET_BYTES = 4 * 50_000_000
"""DeepSpeed's communication buffer for gradients."""

OFFLOADED_LAYERS = 3
"""Layers whose activations are on the device at one time where the others' are on the host."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the rank that needs most, at the point of a step where it needs most.

    `weights`: with their frozen copy of `frozen` bytes, where the stage keeps one; `exchange`:
    DeepSpeed's persistent buffers; `activations`: saved for backward over all layers and
    micro-batches in flight, by part of a layer; `moments`: bytes beyond `states` at each candidate
    for the peak, by name; `gradients`: fp32, accumulated over the whole step.
    """

    weights: float
    gradients: float
    optimizer: float
    exchange: float
    activations: dict[str, float]
    moments: dict[str, float] = field(default_factory=dict)
    frozen: float = 0.0

    @property
    def states(self) -> float:
        """Bytes that persist through the step."""
        return self.weights + self.optimizer + self.exchange

    @property
    def moment(self) -> str:
        """The name of the point of the step with the highest need."""
        return max(self.moments, key=self.moments.__getitem__)

    @property
    def peak(self) -> float:
        """Bytes at that point: the peak."""
        return self.states + self.moments[self.moment]


def memory(recipe: Recipe, world_size: int, vocab: int, device: Device = "cuda") -> Memory:
    """The memory of a step on `world_size` ranks. `vocab`: rows of the embedding.

    `recompute: auto` counts as none. Of a pipeline, the larger of both ends: the first stage has
    the most micro-batches in flight, the last one the loss.
    """
    stage = recipe.zero.model_copy(update={"stage": recipe.sharding(world_size)})
    recipe = recipe.model_copy(update={"zero": stage})
    if recipe.recompute == "auto":
        recipe = recipe.model_copy(update={"recompute": "none"})
    if recipe.parallel.pipeline == 1:
        return _stage(recipe, world_size, vocab, device, first=True, last=True)
    ends = [
        _stage(recipe, world_size, vocab, device, first=first, last=not first)
        for first in (True, False)
    ]
    return max(ends, key=lambda end: end.peak)


def largest_micro(
    recipe: Recipe, memory_bytes: float, world_size: int, vocab: int, device: Device = "cuda"
) -> int:
    """The largest batch.micro whose step fits in `memory_bytes` a rank; 0 where not even 1 does.

    The global batch is ignored: it may have to change for that micro-batch.
    """

    def fits(micro: int) -> bool:
        count = recipe.micro_batches(world_size)
        tried = with_micro(recipe, micro, world_size, count)
        return memory(tried, world_size, vocab, device).peak <= memory_bytes

    if not fits(1):
        return 0
    fitting, beyond = 1, 2
    while fits(beyond):
        fitting, beyond = beyond, 2 * beyond
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        fitting, beyond = (middle, beyond) if fits(middle) else (fitting, middle)
    return fitting


def with_micro(recipe: Recipe, micro: int, world_size: int, count: int) -> Recipe:
    """The recipe with another micro-batch, and a global batch of `count` of them a replica."""
    sequences = count * micro * recipe.data_parallel(world_size)
    batch = recipe.batch.model_copy(update={"micro": micro, "sequences": sequences})
    return recipe.model_copy(update={"batch": batch})


@dataclass(frozen=True)
class _Weights:
    """Parameters that one stage holds, on one rank: of each part, of its MLP's two matrices, and of
    its largest matrix.
    """

    embedding: float
    layer: float
    layers: float
    head: float
    up: float
    down: float

    @property
    def total(self) -> float:
        return self.embedding + self.layers * self.layer + self.head

    @property
    def largest(self) -> float:
        return max(self.embedding, self.head, self.up)


def _weights(recipe: Recipe, vocab: int, first: bool, last: bool) -> tuple[_Weights, _Weights]:
    """What one stage holds, and what of that learns."""
    model, parallel = recipe.model, recipe.parallel
    base, tensor = parameter_count(model, vocab), parallel.tensor
    adapters = adapter_count(model, vocab, recipe.lora, tensor)
    held = {part: base[part] / tensor + adapters[part] for part in adapters}
    if model.tied_embeddings and last and not first:
        held["head"] += base["embedding"] / tensor  # the last stage's copy of the embedding
    learning = trained_count(model, vocab, recipe.lora, tensor)
    if model.tied_embeddings and last and not first:
        learning["head"] += learning["embedding"] - adapters["embedding"]
    _qkv, _projection, gate_up, down = block_linears(model)
    of_base = 1 if recipe.lora is None else 0  # frozen matrices have no gradient

    def stage(count: Mapping[str, float], matrices: int) -> _Weights:
        return _Weights(
            embedding=count["embedding"] if first else 0.0,
            layer=count["layers"] / model.layers,
            layers=model.layers / parallel.pipeline,
            head=count["head"] if last else 0.0,
            up=matrices * gate_up.weights / tensor,
            down=matrices * down.weights / tensor,
        )

    return stage(held, 1), stage(learning, of_base)


def in_flight(recipe: Recipe, world_size: int, first: bool) -> float:
    """Micro-batches whose activations a stage holds at one time, each of all the stage's layers.

    1F1B: p on the first of p stages. Interleaved (Narayanan et al. 2021), with v model chunks a
    stage, the first stage holds 1 + (p - 1) / (p v) times the activations of a whole model
    (Korthikanti et al. 2022, section 4.2.3).
    """
    sizes = recipe.parallel
    if not first:
        return 1.0
    kept = sizes.pipeline
    if sizes.virtual > 1:
        return min(kept + (kept - 1) / sizes.virtual, recipe.micro_batches(world_size))
    return float(min(kept, recipe.micro_batches(world_size)))


def _stage(
    recipe: Recipe, world_size: int, vocab: int, device: Device, first: bool, last: bool
) -> Memory:
    held, learning = _weights(recipe, vocab, first, last)
    zero, width = recipe.zero, 2 if recipe.precision == "bf16" else 4
    shards = recipe.data_parallel(world_size) * recipe.parallel.context if zero.stage else 1
    master = 0 if width == 4 and zero.stage == 0 else _MASTER
    average = _AVERAGE if recipe.checkpoint.average is not None else 0
    optimizer = learning.total * (master + _MOMENTS + average) / shards
    exchange = 0.0
    if zero.stage == 3:
        exchange = learning.total * _GRADIENT / shards + (BUCKET_BYTES if width == 4 else 0)
    kept = layer_kept(recipe, device)
    times = held.layers * in_flight(recipe, world_size, first)
    if recipe.offload == "activations":
        times = min(times, OFFLOADED_LAYERS) if device == "cuda" else times + OFFLOADED_LAYERS
    activations = {part: size * times for part, size in kept.items() if size}
    activations["shared"] = shared_kept(recipe, device) * in_flight(recipe, world_size, first)
    copy = _frozen_copy(recipe, vocab, first, last) * width
    found = Memory(
        weights=held.total * width / (shards if zero.stage == 3 else 1) + copy,
        gradients=learning.total * _GRADIENT,
        optimizer=optimizer if zero.offload == "none" else 0.0,
        exchange=exchange,
        activations=activations,
        frozen=copy,
    )
    count = recipe.micro_batches(world_size)
    step = _Step(recipe, device, learning, found, count, last, vocab)
    found.moments.update(step.moments(shards))
    return found


def _frozen_copy(recipe: Recipe, vocab: int, first: bool, last: bool) -> float:
    """Parameters of the second copy that `reinforce.reference: copy` keeps, whole at every stage of
    ZeRO.
    """
    if not recipe.reinforce.keeps_copy:
        return 0.0
    held, _ = _weights(recipe.model_copy(update={"lora": None}), vocab, first, last)
    return held.total


@dataclass(frozen=True)
class _Step:
    """The candidates for a step's peak on one stage."""

    recipe: Recipe
    device: Device
    learning: _Weights
    found: Memory
    micro_batches: int
    last: bool
    vocab: int

    @property
    def several(self) -> bool:
        """Whether gradients of an earlier micro-batch are there already."""
        return self.micro_batches > 1

    def moments(self, shards: int) -> dict[str, float]:
        """Bytes beyond the states at each; `shards`: ranks that share the optimizer's state."""
        recipe, learning = self.recipe, self.learning
        sizes = ActivationSizes.of(recipe)
        batch = 3 * 8 * self.micro_batches * recipe.batch.micro * recipe.sequence_length
        kept = batch + sum(self.found.activations.values())
        every = self.found.gradients if self.several else 0.0
        found: dict[str, float] = {}
        if self.last:
            kept += final_norm_kept(recipe, self.device)
            forward, backward = self._loss(sizes)
            found["loss, forward"] = kept + every + forward
            found["loss, backward"] = kept + every + backward
        layer = sum(layer_kept(recipe, self.device).values())
        own = learning.layer * _GRADIENT
        after_head = every or learning.head * _GRADIENT
        work = self._layer(sizes)
        found["last layer, backward"] = kept + after_head + work
        first = self.found.gradients - (0.0 if self.several else own)
        if learning.embedding and not self.several:
            first -= learning.embedding * _GRADIENT
        few = batch + self.found.activations["shared"] + layer
        found["first layer, backward"] = few + first + work
        if learning.embedding:
            others = self.found.gradients
            if not self.several:
                others -= learning.embedding * _GRADIENT
            dense = learning.embedding * self._gradient_bytes
            found["embedding, backward"] = batch + others + dense + sizes.hidden * sizes.width
        found["optimizer"] = batch + self._optimizer(shards)
        return found

    @property
    def _gradient_bytes(self) -> int:
        """Bytes a parameter while its gradient is computed: in bf16, that and its fp32 copy."""
        return 6 if self.recipe.precision == "bf16" else 4

    def _loss(self, sizes: ActivationSizes) -> tuple[float, float]:
        """Bytes in the loss's forward and backward pass, the last hidden states included."""
        recipe, width = self.recipe, sizes.width
        vocab = self.vocab / recipe.parallel.tensor
        table = self.learning.head or (recipe.model.tied_embeddings * self.learning.embedding)
        states = sizes.whole * width
        if fused_loss(recipe, vocab):
            return self._fused(sizes, vocab, states, table), states + table * 4
        logits = sizes.tokens * vocab
        product = states * 2 + logits * width + table * self._gradient_bytes
        if self.device == "cuda":
            return states + logits * width, product
        if recipe.parallel.tensor > 1:
            return states + logits * (width + 4 * width // 2), states + logits * (6 + width)
        forward = logits * (8 if width == 4 else 10)
        # PyTorch's own gradient needs more than that by the formula, which a loss with terms takes.
        backward = 12 * logits if recipe.loss.plain else forward
        return states + forward, max(states + backward, product)

    def _fused(self, sizes: ActivationSizes, vocab: float, states: float, table: float) -> float:
        """Bytes of a chunk's logits and both gradients; the reference adds the chunk in fp32."""
        width = sizes.width
        chunk = min(sizes.tokens, max(128, CHUNK_BYTES // (int(vocab) * width) // 128 * 128))
        padded = -(-int(vocab) // 64) * 64
        work = chunk * padded * width
        if self.device == "cpu":
            work += chunk * vocab * (4 if width == 4 else 8)
        return 2 * states + table * 4 + work

    def _layer(self, sizes: ActivationSizes) -> float:
        """Bytes that a layer's backward pass needs at most, in its MLP, beyond what was saved."""
        parts, width = self.recipe.recomputed, sizes.width
        ffn, hidden = sizes.ffn * width, sizes.hidden * width
        recomputed = 0.0
        product = ffn
        if "full" in parts or "mlp" in parts:
            none: frozenset[str] = frozenset()
            whole = layer_kept(self.recipe, self.device, none)
            recomputed = whole["gate_up"] + whole["product"]
            if "full" in parts:
                recomputed = sum(whole.values()) - sizes.hidden * width
        elif "swiglu" in parts:
            product = 0.0
        down, up = self.learning.down, self.learning.up
        made = ffn if "swiglu" in parts else 0.0
        gated = ffn + 2 * ffn if self.device == "cuda" else 12 * sizes.ffn
        return recomputed + max(
            made + 2 * hidden + ffn + down * self._gradient_bytes,
            hidden - product + gated + down * 4,
            2 * hidden - product - 2 * ffn + 2 * ffn + up * self._gradient_bytes + down * 4,
        )

    def _optimizer(self, shards: int) -> float:
        """Bytes of the gradients, and of the optimizer step's temporaries."""
        gradients, stage = self.found.gradients, self.recipe.zero.stage
        if stage == 0:
            temporary = 2 * 4 * self.learning.largest if self.device == "cpu" else 0.0
            return gradients + temporary
        flat = gradients / shards
        if stage == 3:
            return gradients
        bucket = BUCKET_BYTES if self.recipe.precision == "fp32" else 0
        flattened = self.recipe.precision == "fp32"  # bf16 gradients are not gathered in one tensor
        temporary = flat * (int(flattened) + int(self.device == "cpu"))
        return gradients + max(bucket, temporary)
