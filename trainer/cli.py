"""The `lyceum` command: one function a verb, no logic; heavy imports wait for their verb."""

import logging
import os
import select
import sys
import traceback
import warnings
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.command_line import Verb, parse
from trainer.errors import DataError, LyceumError, RecipeError, StopRequested
from trainer.preflight import refuse_foreign_kernels, refuse_unknown_kernels

if TYPE_CHECKING:
    from trainer.recipe import Recipe


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; what a user caused is shown as one line."""
    words = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(format="%(message)s")
    logging.getLogger("trainer").setLevel(logging.INFO)
    # OpenMP threads that spin while they wait slow a busy machine down tenfold; read on import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "--debug" not in words:
        _silence_dependencies()
    try:
        parsed = parse(words, _VERBS)
        refuse_foreign_kernels()
        refuse_unknown_kernels()
        run: Verb = parsed.run
        return run(parsed)
    except LyceumError as error:
        if "--debug" in words:
            traceback.print_exc()
        _report(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from launch.failure import leave_failure

        if not (_reader_has_left(error) or leave_failure(error)):
            raise
        return 1


def _silence_dependencies() -> None:
    """Hide warnings raised inside dependencies: they speak to their callers, not to our users."""
    noisy = ("torch", "deepspeed", "megatron", "transformers", "triton")
    warnings.filterwarnings("ignore", module=rf"({'|'.join(noisy)})(\.|$)")


def _reader_has_left(error: Exception) -> bool:
    """Whether `error` is only that whoever reads our output, such as `head`, has seen enough."""
    if not isinstance(error, BrokenPipeError):
        return False
    try:
        standard_output = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    # Not by flushing: what could not be written may have left the buffer all the same.
    pipe = select.poll()
    pipe.register(standard_output, 0)
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    # Python's own flush at exit must not complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), standard_output)
    return True


def _report(error: LyceumError) -> None:
    from launch.failure import leave_failure

    if leave_failure(error):
        return  # The process that started this rank reports it, once for all ranks.
    rank = os.environ.get("RANK", "0")
    who = "" if rank == "0" else f" (rank {rank})"
    what = "stopped" if isinstance(error, StopRequested) else "error"
    print(f"lyceum: {what}{who}: {' '.join(str(error).split())}", file=sys.stderr)


def _demo(call: Namespace) -> int:
    from trainer.demo import run_demo

    run_demo(Path(call.folder))
    return 0


def _corpus_build(call: Namespace) -> int:
    from trainer.corpus.build.corpus import build_from_recipe

    build_from_recipe(_recipe(call), on=call.on)
    return 0


def _corpus_inspect(call: Namespace) -> int:
    from rich import print

    from trainer.corpus.inspect.contents import inspect_corpus, write_extras

    folder = Path(call.folder)
    # Files first: whoever reads the rest, such as `head`, may leave early.
    write_extras(folder, _path(call.plots), _path(call.card))
    print(inspect_corpus(folder, sequence_length=call.sequence_length))
    return 0


def _corpus_find(call: Namespace) -> int:
    from trainer.corpus.inspect.find import find_command

    find_command(Path(call.folder), call.passage, call.exact, call.limit, _path(call.json_file))
    return 0


def _corpus_scale(call: Namespace) -> int:
    from trainer.plan.corpus import scale_command

    scale_command(call.text_bytes, call.document_bytes, call.token_bytes)
    return 0


def _corpus_verify(call: Namespace) -> int:
    from trainer.corpus.inspect.verify import verify_corpus

    return _verdict(verify_corpus(Path(call.folder)), call.folder)


def _corpus_trace(call: Namespace) -> int:
    from trainer.trace import trace_command

    trace_command(Path(call.folder), call.step, call.row)
    return 0


def _train(call: Namespace) -> int:
    recipe = _recipe(call)
    if call.show:
        from trainer.plan.show import show

        show(recipe, call.nproc)
        return 0
    from launch.local import train_ranks

    return train_ranks(recipe, call.nproc, force=call.force)


def _evaluate(call: Namespace) -> int:
    from trainer.evaluate.command import evaluate_command

    evaluate_command(Path(call.checkpoint), call.suites, _path(call.json_file))
    return 0


def _generate(call: Namespace) -> int:
    from launch.local import run_local

    def worker() -> int:
        from trainer.evaluate.command import generate_command

        generate_command(
            Path(call.checkpoint),
            prompt=call.prompt,
            prompts_file=_path(call.prompts),
            tokens=call.tokens,
            temperature=call.temperature,
            top_k=call.top_k,
            top_p=call.top_p,
            seed=call.seed,
        )
        return 0

    return run_local(worker, call.nproc)


def _import(call: Namespace) -> int:
    from trainer.hugging_face.importing import import_command

    import_command(Path(call.folder), Path(call.checkpoint))
    return 0


def _export(call: Namespace) -> int:
    if call.adapter:
        from trainer.hugging_face.adapters import export_adapter_command

        export_adapter_command(Path(call.checkpoint), Path(call.folder), call.base)
        return 0
    from trainer.hugging_face.exporting import export_command

    export_command(
        Path(call.checkpoint), Path(call.folder), shard_gb=call.shard_gb, dtype=call.dtype
    )
    return 0


def _chat(call: Namespace) -> int:
    from trainer.evaluate.chat import chat_command
    from trainer.evaluate.generate import Sampling

    sampling = Sampling(call.tokens, call.temperature, call.top_k, call.top_p, call.seed)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chat_command(Path(call.checkpoint), call.system, sampling, world_size)
    return 0


def _checkpoint_list(call: Namespace) -> int:
    from trainer.checkpoint.report import list_command

    list_command(Path(call.folder))
    return 0


def _checkpoint_verify(call: Namespace) -> int:
    from trainer.checkpoint.report import verify_command

    verify_command(Path(call.checkpoint))
    return 0


def _checkpoint_prune(call: Namespace) -> int:
    from trainer.checkpoint.report import prune_command

    prune_command(Path(call.folder), call.keep)
    return 0


def _checkpoint_diff(call: Namespace) -> int:
    from trainer.checkpoint.report import diff_command

    diff_command(Path(call.checkpoint), Path(call.other))
    return 0


def _bench_train(call: Namespace) -> int:
    from trainer.bench.train import bench_command

    bench_command(
        _recipe(call),
        call.pairs,
        _path(call.json_file),
        peers=call.peers,
        ours=call.ours,
        made=call.made,
        steps=call.steps,
        plot_file=_path(call.plot),
        peer_seconds=call.peer_seconds,
    )
    return 0


def _bench_step(call: Namespace) -> int:
    from trainer.bench.step.command import step_command

    step_command(
        _recipe(call),
        on_cpu=call.on == "cpu",
        predict_only=call.predict_only,
        json_file=_path(call.json_file),
        markdown_file=_path(call.markdown),
        plot_file=_path(call.plot),
        trace_file=_path(call.trace),
        words=(call.recipe, *call.overrides),
    )
    return 0


def _bench_memory(call: Namespace) -> int:
    from trainer.bench.memory import memory_command

    memory_command(
        _recipe(call), gib=call.memory, run=not call.no_run, json_file=_path(call.json_file)
    )
    return 0


def _bench_curation(call: Namespace) -> int:
    from trainer.bench.curation import curation_command

    curation_command(call.documents, _path(call.json_file))
    return 0


def _bench_kernels(call: Namespace) -> int:
    from kernels.bench.command import kernels_command
    from kernels.bench.errors import BenchError, CheckFailed, GateFailed

    try:
        kernels_command(
            call.family,
            sizes=call.sizes,
            compile_only=call.compile_only,
            write=call.write,
            tune=call.tune,
            check=call.check,
            json_file=_path(call.json_file),
            plots=_path(call.plots),
        )
    except BenchError as error:
        raise RecipeError(str(error)) from error
    except (CheckFailed, GateFailed) as error:
        raise LyceumError(str(error)) from error
    return 0


def _bench_data(call: Namespace) -> int:
    from trainer.bench.data.command import bench_command

    bench_command(
        call.tokens,
        call.sequence_length,
        json_file=_path(call.json_file),
        plots=_path(call.plots),
        tokenizer=_path(call.tokenizer),
        repeats=call.repeats,
    )
    return 0


_VERBS: dict[str, Verb] = {
    "demo": _demo,
    "corpus build": _corpus_build,
    "corpus inspect": _corpus_inspect,
    "corpus verify": _corpus_verify,
    "corpus find": _corpus_find,
    "corpus scale": _corpus_scale,
    "corpus trace": _corpus_trace,
    "train": _train,
    "evaluate": _evaluate,
    "generate": _generate,
    "chat": _chat,
    "import": _import,
    "export": _export,
    "checkpoint ls": _checkpoint_list,
    "checkpoint verify": _checkpoint_verify,
    "checkpoint prune": _checkpoint_prune,
    "checkpoint diff": _checkpoint_diff,
    "bench train": _bench_train,
    "bench step": _bench_step,
    "bench memory": _bench_memory,
    "bench curation": _bench_curation,
    "bench kernels": _bench_kernels,
    "bench data": _bench_data,
}


def _recipe(call: Namespace) -> "Recipe":
    from launch.local import find_recipe
    from trainer.recipe import load_recipe

    return load_recipe(find_recipe(call.recipe), call.overrides)


def _verdict(problems: list[str], folder: str) -> int:
    for problem in problems:
        print(problem)
    if problems:
        raise DataError(f"{folder}: {len(problems)} problems found; build the corpus again")
    print(f"{folder}: every shard is as its manifest says")
    return 0


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
