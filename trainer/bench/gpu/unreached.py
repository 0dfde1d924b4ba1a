"""What the CPU tests do not reach, and why: python -m trainer.bench.gpu.unreached.

Beside each, the part of `trainer.bench.gpu.command` that runs it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SEVERAL = "none: needs several GPUs"
ABSENT = "none: needs flash-attn for the GPU's wheel"


@dataclass(frozen=True)
class Unreached:
    """One thing that no test on a CPU runs, or that a test leaves out on one of the two."""

    what: str
    where: str
    """path::symbol."""
    why: str
    """Why the tests, which run on a CPU, do not reach it."""
    part: str
    """The part of `trainer.bench.gpu.command` that does, or "none: ..."."""


UNREACHED: tuple[Unreached, ...] = (
    # --- Ranks and groups
    Unreached(
        "NCCL's start, and every group on it",
        "trainer/parallel/join.py::_join",
        "on a CPU the ranks meet over gloo",
        "groups",
    ),
    Unreached(
        "NCCL between ranks: bandwidth, and any order of arrival",
        "trainer/parallel/zero/replicated.py::ReplicatedAdamW._average",
        "one rank has nobody to wait for",
        SEVERAL,
    ),
    Unreached(
        "CUDA_DEVICE_MAX_CONNECTIONS=1, and a rank's own GPU",
        "trainer/parallel/join.py::create_layout",
        "read by the CUDA driver alone",
        "groups",
    ),
    Unreached(
        "a local rank beyond the machine's GPUs is refused",
        "trainer/parallel/join.py::choose_device",
        "there is none to count",
        "none: needs a start of more ranks than GPUs",
    ),
    Unreached(
        "batch_p2p_comm: sends between stages in one batch",
        "trainer/parallel/megatron.py::transformer_config",
        "batched sends give wrong gradients on gloo and are off there; one rank sends nothing",
        SEVERAL,
    ),
    Unreached(
        "deallocate_pipeline_outputs: a stage's output freed once it is sent",
        "trainer/parallel/megatron.py::transformer_config",
        "races with overlapped sends on gloo, where it is off",
        "groups",
    ),
    Unreached(
        "megatron-core's own CUDA calls and generators, unreplaced",
        "trainer/parallel/cpu.py::use_cpu",
        "the CPU puts its own in their place",
        "curve",
    ),
    Unreached(
        "a broadcast of choices and names over NCCL",
        "trainer/parallel/agreement.py::Ranks",
        "gloo moves CPU tensors",
        "curve",
    ),
    Unreached(
        "a stop agreed on over NCCL",
        "trainer/recovery/signals.py::agree",
        "gloo moves CPU tensors",
        SEVERAL,
    ),
    Unreached(
        "ranks as new processes instead of forks",
        "launch/ranks.py::start_process",
        "CUDA does not survive a fork; a CPU rank is one (a stand-in command is tested)",
        SEVERAL,
    ),
    # --- The optimizer
    Unreached(
        "zero.offload: optimizer state in pinned host memory",
        "trainer/parallel/zero/deepspeed.py::deepspeed_config",
        "validation refuses it on a CPU, where the state is there already",
        "groups",
    ),
    Unreached(
        "DeepSpeed's engine on CUDA, stages 1 to 3",
        "trainer/parallel/zero/sharded.py::ShardedAdamW",
        "its CPU accelerator runs instead",
        "groups",
    ),
    Unreached(
        "one launch over all tensors, their addresses copied from pinned memory",
        "kernels/tensor_list.py::sent",
        "the interpreter reads plain tensors",
        "kernels",
    ),
    # --- Kernels
    Unreached(
        "compiled Triton kernels, their numbers and races",
        "kernels/launch.py::launch",
        "the interpreter runs one program after the other; the gate compiles and runs nothing",
        "kernels",
    ),
    Unreached(
        "Triton by default, without LYCEUM_KERNELS",
        "kernels/dispatch.py::use_triton",
        "only tensors on a GPU ask for it",
        "kernels",
    ),
    Unreached(
        "tile sizes looked up by the chip's capability and shared memory",
        "kernels/tiles/__init__.py::tile",
        "a CPU takes the defaults; the tables were written by hand",
        "bench",
    ),
    Unreached(
        "tuning: tables renewed from measured times",
        "kernels/bench/tune.py::tune_family",
        "needs times; takes longer than a part may",
        "none: `lyceum bench kernels --tune`, by hand",
    ),
    Unreached(
        "bf16 products added to an fp32 gradient in one call",
        "kernels/linear_cross_entropy.py::_Gradients._add_of_weight",
        "torch has it on CUDA alone",
        "kernels",
    ),
    Unreached(
        "labels that are wrong give NaN instead of an error",
        "kernels/cross_entropy/__init__.py::check_labels",
        "on a CPU they are looked at",
        "none: pytest tests/kernels on a GPU, by hand",
    ),
    # --- Attention's back ends
    Unreached(
        "the quickest back end measured and remembered",
        "trainer/model/backend.py::choose_backend",
        "tests bring a clock of their own",
        "train-160m",
    ),
    Unreached(
        "kernels.json of a run, read again on resuming",
        "trainer/start.py::_choose_kernels",
        "a CPU run chooses nothing",
        "none: no part resumes a run",
    ),
    Unreached(
        "times by CUDA events",
        "kernels/attention/choices.py::cuda_milliseconds",
        "there are no events on a CPU",
        "train-160m",
    ),
    Unreached(
        "the flash-attn back end",
        "kernels/attention/backends.py::_flash",
        "the package exists for CUDA alone; where it is installed, `kernels` and `groups` run it",
        ABSENT,
    ),
    Unreached(
        "SDPA's CUDA kernels, and their refusal where gradients must repeat",
        "kernels/attention/backends.py::_sdpa",
        "a CPU has another kernel",
        "kernels",
    ),
    # --- Time and memory
    Unreached(
        "times by CUDA events with cold caches",
        "kernels/bench/measure.py::GpuClock",
        "tests bring a clock of their own",
        "bench",
    ),
    Unreached(
        "peers: Liger, flash-attn, torch.compile on CUDA",
        "kernels/bench/peers.py::compiled",
        "they are measured only, and only on a GPU",
        "bench",
    ),
    Unreached(
        "peak memory by the allocator",
        "trainer/observe/throughput.py::memory_gib",
        "a CPU run states its resident set",
        "train-160m",
    ),
    Unreached(
        "MFU: a share of a peak that is known",
        "trainer/plan/devices.py::peak_flops",
        "a CPU's peak is not known; the names are tested",
        "train-1.2b",
    ),
    Unreached(
        "a step's numbers read a step late, from pinned memory",
        "trainer/parallel/device.py::Readback",
        "a CPU has done its work when a call returns",
        "waits",
    ),
    Unreached(
        "CUDA in the profiler's trace",
        "trainer/observe/profile.py::Profiler",
        "the CPU's activities alone are recorded",
        "none: `profile.steps` of a run; `step` records with a profiler of its own",
    ),
    Unreached(
        "batches pinned by the loader",
        "trainer/data/batch.py::Batch",
        "without a GPU nothing is pinned",
        "waits",
    ),
    Unreached(
        "activations copied to pinned memory on a stream of their own",
        "trainer/model/offload.py::Offload",
        "a CPU copies when it is asked, and has no streams",
        "groups",
    ),
    Unreached(
        "layers compiled by torch.compile for CUDA",
        "trainer/model/compiled.py::compile_layers",
        "tests compile for the CPU, in C++",
        "groups",
    ),
    Unreached(
        "moments in a GPU's queue, which step times are taken from",
        "trainer/parallel/device.py::Moment",
        "a CPU has the host's clock",
        "waits",
    ),
    # --- Tests that are skipped
    Unreached(
        "test: the fused loss over two ranks (skipped on a GPU)",
        "tests/kernels/test_linear_cross_entropy.py::test_ranks_that_share_the_vocabulary_are_right",
        "two ranks over gloo, on the CPU; two GPUs would be needed",
        SEVERAL,
    ),
    Unreached(
        "test: cross entropy over two ranks (skipped on a GPU)",
        "tests/kernels/test_cross_entropy.py::test_ranks_that_share_the_vocabulary_are_right",
        "two ranks over gloo, on the CPU; two GPUs would be needed",
        SEVERAL,
    ),
    Unreached(
        "test: wrong labels are named (skipped on a GPU)",
        "tests/kernels/test_cross_entropy.py::test_unknown_labels_are_named_on_the_cpu",
        "looked at on the CPU only",
        "none: a GPU gives NaN",
    ),
)


def table_of_unreached(records: Iterable[Unreached]) -> str:
    """A Markdown table."""
    lines = ["| what | where | why no CPU test reaches it | part |", "|---|---|---|---|"]
    for one in records:
        lines.append(f"| {one.what} | `{one.where}` | {one.why} | {one.part} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table_of_unreached(UNREACHED))
