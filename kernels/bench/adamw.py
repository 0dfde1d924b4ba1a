"""AdamW and the gradient norm over the tensors of Llama-3 8B layers, 0.2 to 3.5 billion weights."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from kernels.adamw import Scalars, _launch, adamw_step
from kernels.bench.case import BenchCase, CompileCase, Implementations, Sizes, TuneCase
from kernels.bench.checks.adamw import Lists
from kernels.bench.checks.adamw import check_cases as check_cases
from kernels.grad_norm import _launch as launch_square_sum
from kernels.grad_norm import clip_coefficient, grad_norm
from kernels.tensor_list import CHUNK, Chunks, TensorPlans

LAYERS = (1, 2, 4, 8)
MODEL_LAYERS = (4,)
OPTIONS: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
SCALARS = Scalars.of(**OPTIONS, step=10)
CLIP = 1.0

_LAYER = ((4096,), (4096,), (6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))

MOVED = {"norm": 4, "step": 28, "step with bf16 copy": 30, "norm, clip and step": 32}
"""Bytes a weight: a norm reads 4; a step reads 16 and writes 12, and a bf16 copy is 2 more."""


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """The norm, the step with and without a bf16 copy, and all of an update."""
    for layers in LAYERS if sizes == "sweep" else MODEL_LAYERS:
        count = layers * sum(torch.Size(shape).numel() for shape in _LAYER)
        size = f"{count / 1e9:.2f}e9 weights in {layers * len(_LAYER)} tensors, fp32"
        for name, prepare in (
            ("norm", _norm),
            ("step", _step),
            ("step with bf16 copy", _step_with_copy),
            ("norm, clip and step", _clipped_step),
        ):
            yield BenchCase(name, size, count, MOVED[name] * count, 0, partial(prepare, layers))


def compile_cases() -> Iterator[CompileCase]:
    """Every combination of dtypes that training has.

    How wide loads are is not asked: beside the way of whole chunks, whose loads have 128 bits, each
    kernel has one for ends and odd addresses, which takes single elements.
    """
    fp32, bf16 = torch.float32, torch.bfloat16
    for parameter, gradient in ((fp32, fp32), (bf16, fp32), (bf16, bf16)):
        name = f"step {_name(parameter)} with {_name(gradient)} gradients"
        step = partial(_compile_step, parameter, gradient)
        yield CompileCase(name, step, vector_bits=0)
    for gradient in (fp32, bf16):
        norm = partial(_compile_norm, gradient)
        yield CompileCase(f"norm of {_name(gradient)}", norm, vector_bits=0)


def tune_cases() -> Iterator[TuneCase]:
    """Elements a block and warps, a chunk being the same for all."""
    for kernel, prepare in (("adamw.adamw", _tuned_step), ("grad_norm.square_sum", _tuned_norm)):
        candidates = [
            {"BLOCK": block, "num_warps": warps}
            for block in (512, 1024, 2048, 4096, 8192)
            for warps in (4, 8, 16)
            if 4 <= block // (32 * warps) <= 32
        ]
        yield TuneCase(kernel, CHUNK, candidates, prepare)


def _lists(layers: int, device: torch.device) -> Lists:
    names = ("parameters", "gradients", "exp_avg", "exp_avg_sq")
    return {
        name: [torch.rand(shape, device=device) for _ in range(layers) for shape in _LAYER]
        for name in names
    }


def _norm(layers: int, device: torch.device) -> Implementations:
    gradients = [torch.randn(shape, device=device) for _ in range(layers) for shape in _LAYER]
    return {
        "lyceum": partial(grad_norm, gradients, plans=TensorPlans()),
        "eager": partial(torch.nn.utils.get_total_norm, gradients, foreach=True),
    }


def _step(layers: int, device: torch.device) -> Implementations:
    lists = _lists(layers, device)
    return {
        "lyceum": partial(adamw_step, **lists, **OPTIONS, step=10, plans=TensorPlans()),
        "foreach": _torch_adamw(lists, foreach=True).step,
        "fused": _torch_adamw(lists, fused=True).step,
    }


def _step_with_copy(layers: int, device: torch.device) -> Implementations:
    lists = _lists(layers, device)
    copies = [p.bfloat16() for p in lists["parameters"]]
    own = lists | {"parameters": copies, "masters": lists["parameters"]}
    fused = _torch_adamw(lists, fused=True)

    def step_and_copy() -> None:
        fused.step()
        torch._foreach_copy_(copies, lists["parameters"])

    return {
        "lyceum": partial(adamw_step, **own, **OPTIONS, step=10, plans=TensorPlans()),
        "fused": step_and_copy,
    }


def _clipped_step(layers: int, device: torch.device) -> Implementations:
    lists = _lists(layers, device)
    plans = TensorPlans()
    fused = _torch_adamw(lists, fused=True)

    def clip_and_step() -> None:
        norm = grad_norm(lists["gradients"], plans=plans)
        factor = clip_coefficient(norm, CLIP)
        adamw_step(**lists, **OPTIONS, step=10, clip_coefficient=factor, plans=plans)

    def clip_and_step_in_torch() -> None:
        weights = fused.param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(weights, CLIP, foreach=True)
        fused.step()

    return {"lyceum": clip_and_step, "fused": clip_and_step_in_torch}


def _torch_adamw(lists: Lists, **kind: Any) -> torch.optim.AdamW:
    """The peer, on the same tensors."""
    weights = [torch.nn.Parameter(p) for p in lists["parameters"]]
    for weight, gradient in zip(weights, lists["gradients"], strict=True):
        weight.grad = gradient
    return torch.optim.AdamW(weights, **OPTIONS, **kind)


def _compile_step(parameter: torch.dtype, gradient: torch.dtype) -> None:
    device = torch.device("meta")
    rows = 4 if parameter == torch.float32 else 5
    table = torch.empty(rows, len(_LAYER), dtype=torch.int64, device=device)
    flag = torch.empty((), device=device)
    chunks = _meta_chunks(device)
    corrections = torch.empty(2, device=device)
    _launch((parameter, gradient), table, chunks, SCALARS, flag, flag, corrections)


def _compile_norm(gradient: torch.dtype) -> object:
    device = torch.device("meta")
    table = torch.empty(len(_LAYER), dtype=torch.int64, device=device)
    gradients = [torch.empty(shape, dtype=gradient, device=device) for shape in _LAYER]
    return launch_square_sum(gradients, table, _meta_chunks(device))


def _meta_chunks(device: torch.device) -> Chunks:
    chunks = Chunks.of([torch.Size(shape).numel() for shape in _LAYER], torch.device("cpu"))
    return Chunks(*(x.to(device) for x in (chunks.owner, chunks.first, chunks.sizes)))


def _tuned_step(device: torch.device) -> Callable[[], object]:
    lists = _lists(1, device)
    return partial(adamw_step, **lists, **OPTIONS, step=10, plans=TensorPlans())


def _tuned_norm(device: torch.device) -> Callable[[], object]:
    return partial(grad_norm, _lists(1, device)["gradients"], plans=TensorPlans())


def _name(dtype: torch.dtype) -> str:
    return "fp32" if dtype == torch.float32 else "bf16"
