"""The grammar of the `lyceum` command: its verbs, their arguments and their help."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from trainer import __version__
from trainer.errors import RecipeError

Verb = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise RecipeError instead of printing the usage."""
        raise RecipeError(f"{message}; see {self.prog} --help")


def parse(arguments: list[str], verbs: dict[str, Verb]) -> argparse.Namespace:
    """The arguments of one call; `run` in it is the function of its verb, out of `verbs`.

    Raises RecipeError with one line where they are wrong.
    """
    parser = _grammar(verbs)
    # argparse takes KEY=VALUE in one place only; those behind an option are left over.
    parsed, left = parser.parse_known_args(arguments)
    overrides = [word for word in left if "=" in word and not word.startswith("-")]
    if len(overrides) < len(left) or (left and not hasattr(parsed, "overrides")):
        wrong = next(
            word for word in left if word not in overrides or not hasattr(parsed, "overrides")
        )
        raise RecipeError(f"unrecognized argument {wrong!r}; see lyceum --help")
    if left:
        parsed.overrides = [*parsed.overrides, *overrides]
    return parsed


def _grammar(verbs: dict[str, Verb]) -> _Parser:
    parser = _Parser(
        prog="lyceum", description="Train language models, from raw text to a measured model."
    )
    parser.add_argument("--version", action="version", version=f"lyceum {__version__}")
    _debug(parser, default=False)
    add = parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser).add_parser

    def verb(name: str, text: str, parent: Any = None) -> _Parser:
        made: _Parser = (parent or add)(name.split()[-1], help=text, description=text)
        _debug(made, default=argparse.SUPPRESS)
        if name in verbs:
            made.set_defaults(run=verbs[name])
        return made

    demo = verb("demo", "the whole chain on the embedded corpus, in minutes; ends with a report")
    demo.add_argument("--run", dest="folder", default="runs/demo", metavar="DIR")

    _add_corpus(verb)
    _add_train(verb)
    _add_reading(verb)
    _add_hugging_face(verb)
    _add_checkpoint(verb)

    _add_bench(verb)
    return parser


def _add_corpus(verb: Callable[..., _Parser]) -> None:
    branch = _branch(verb("corpus", "make, look at and check corpora"))
    build = verb("corpus build", "make the shards of the recipe's corpus section", branch)
    _recipe(build)
    build.add_argument(
        "--on",
        choices=("local", "slurm"),
        default="local",
        help="where its tasks run; slurm needs the recipe's corpus.slurm",
    )
    inspect = verb("corpus inspect", "what a corpus holds", branch)
    inspect.add_argument("folder", metavar="DIR")
    inspect.add_argument("--plots", metavar="FOLDER", help="draw funnel, lengths and languages")
    inspect.add_argument("--card", metavar="FILE", help="write the data card (Markdown) here")
    inspect.add_argument(
        "--sequence-length",
        type=_positive,
        default=4096,
        metavar="N",
        help="tokens a sequence that packing is shown for",
    )
    verify = verb("corpus verify", "check every shard against its hash", branch)
    verify.add_argument("folder", metavar="DIR")
    find = verb("corpus find", "which documents of a corpus hold a passage", branch)
    find.add_argument("folder", metavar="DIR")
    find.add_argument("passage", metavar="TEXT", help="white space and case do not count")
    find.add_argument("--exact", action="store_true", help="compare byte for byte")
    find.add_argument("--limit", type=_positive, default=20, metavar="N", help="documents at most")
    find.add_argument("--json", dest="json_file", metavar="FILE", help="write what is found here")
    scale = verb("corpus scale", "what a corpus of so much text needs", branch)
    scale.add_argument(
        "--bytes",
        dest="text_bytes",
        type=_bytes,
        nargs="+",
        default=[1e12, 1e14],
        metavar="B",
        help="of text, as 1e12",
    )
    scale.add_argument(
        "--document-bytes", type=_bytes, metavar="B", help="text a document; none: as docstrings"
    )
    scale.add_argument(
        "--token-bytes", type=_bytes, metavar="B", help="text a token; none: as docstrings"
    )
    trace = verb("corpus trace", "which documents made a row of a step's batch", branch)
    trace.add_argument("folder", metavar="RUN", help="run directory")
    trace.add_argument("step", type=_positive, metavar="STEP", help="from 1")
    trace.add_argument("row", type=_count, nargs="?", metavar="ROW", help="from 0; none: all rows")


def _add_train(verb: Callable[..., _Parser]) -> None:
    train = verb(
        "train", "one stage of training; under torchrun it is a rank, alone it starts them"
    )
    _recipe(train)
    train.add_argument("--nproc", type=_positive, metavar="N", help="local ranks to start")
    train.add_argument("--show", action="store_true", help="print recipe and layout; train nothing")
    train.add_argument(
        "--force", action="store_true", help="resume although what is learned has changed"
    )


def _add_reading(verb: Callable[..., _Parser]) -> None:
    evaluate = verb("evaluate", "measure a checkpoint")
    _checkpoint(evaluate)
    evaluate.add_argument(
        "--suite", dest="suites", action="append", default=[], metavar="NAME", help="repeatable"
    )
    evaluate.add_argument("--json", dest="json_file", metavar="FILE", help="write the figures here")

    generate = verb("generate", "read what a checkpoint learned")
    _checkpoint(generate)
    prompt = generate.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="what the text begins with")
    prompt.add_argument("--prompts", metavar="FILE", help="one prompt a line")
    _sampling(generate, tokens=128)
    generate.add_argument("--nproc", type=_positive, metavar="N", help="local ranks to start")


def _add_hugging_face(verb: Callable[..., _Parser]) -> None:
    bring = verb("import", "make a checkpoint of a Hugging Face model folder")
    bring.add_argument("folder", metavar="DIR", help="config.json, safetensors, tokenizer.json")
    bring.add_argument("checkpoint", metavar="CHECKPOINT", help="run directory to make")
    export = verb("export", "make a Hugging Face model folder of a checkpoint")
    _checkpoint(export)
    export.add_argument("folder", metavar="DIR", help="folder to make")
    export.add_argument(
        "--shard-gb", type=float, default=5.0, metavar="G", help="gigabytes a file holds at most"
    )
    export.add_argument(
        "--dtype",
        choices=("stored", "fp32", "bf16"),
        default="stored",
        help="type of the weights; stored: as they were saved",
    )
    export.add_argument(
        "--adapter", action="store_true", help="LoRA adapters alone, in PEFT's format, not merged"
    )
    export.add_argument(
        "--base", metavar="NAME", help="with --adapter: the model that PEFT is to load under them"
    )

    chat = verb("chat", "talk with a checkpoint")
    _checkpoint(chat)
    chat.add_argument("--system", metavar="TEXT", help="system prompt")
    _sampling(chat, tokens=512)


def _sampling(parser: argparse.ArgumentParser, tokens: int) -> None:
    parser.add_argument("--tokens", type=_positive, default=tokens, metavar="N", help="at most")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0: greedy")
    parser.add_argument("--top-k", type=_count, default=0, metavar="K", help="0: all tokens")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="1: all tokens")
    parser.add_argument("--seed", type=_seed, default=0, metavar="S")


def _add_checkpoint(verb: Callable[..., _Parser]) -> None:
    branch = _branch(verb("checkpoint", "look after checkpoints"))
    listing = verb("checkpoint ls", "the checkpoints of a run", branch)
    listing.add_argument("folder", metavar="RUN", help="run directory")
    _checkpoint(verb("checkpoint verify", "check every file against its hash", branch))
    prune = verb("checkpoint prune", "remove all but the newest checkpoints of a run", branch)
    prune.add_argument("folder", metavar="RUN", help="run directory")
    prune.add_argument("--keep", type=_positive, default=1, metavar="N", help="how many stay")
    diff = verb("checkpoint diff", "how two checkpoints differ", branch)
    diff.add_argument("checkpoint", metavar="A")
    diff.add_argument("other", metavar="B")


def _add_bench(verb: Callable[..., _Parser]) -> None:
    branch = _branch(verb("bench", "the benchmarks"))
    train = verb("bench train", "speed and memory of a recipe, beside other loops", branch)
    _recipe(train)
    train.add_argument("--pairs", type=_positive, default=5, metavar="N", help="alternating pairs")
    train.add_argument(
        "--peers",
        default="bare",
        metavar="NAMES",
        help="bare, bare-compiled, transformers-liger, torchtitan, megatron-local: any with"
        " commas, all, or none",
    )
    train.add_argument(
        "--ours",
        default="",
        metavar="NAMES",
        help="eager, compiled, or both with a comma; none: as the recipe says",
    )
    train.add_argument(
        "--made", action="store_true", help="on made tokens, one document a row: needs no corpus"
    )
    train.add_argument("--steps", type=_positive, default=20, metavar="N", help="timed steps a run")
    train.add_argument(
        "--peer-seconds",
        type=_positive,
        default=600,
        metavar="S",
        help="after which a peer is given up",
    )
    train.add_argument("--json", dest="json_file", metavar="FILE", help="write the figures here")
    train.add_argument("--plot", metavar="FILE", help="draw tokens a second of all here")

    step = verb("bench step", "a step's parts: the least time of each, and what it took", branch)
    _recipe(step)
    step.add_argument("--on", choices=("cpu",), help="measure there; none: on a GPU, if any")
    step.add_argument("--predict-only", action="store_true", help="run nothing")
    step.add_argument("--json", dest="json_file", metavar="FILE", help="write the figures here")
    step.add_argument("--markdown", metavar="FILE", help="write the table here")
    step.add_argument("--plot", metavar="FILE", help="draw the step there")
    step.add_argument("--trace", metavar="FILE", help="write a Chrome trace of the step here")

    memory = verb("bench memory", "a step's memory by formula, beside the measured peak", branch)
    _recipe(memory)
    memory.add_argument("--memory", type=float, metavar="GIB", help="to fill; none: the device's")
    memory.add_argument("--no-run", action="store_true", help="the formula only")
    memory.add_argument("--json", dest="json_file", metavar="FILE", help="write the figures here")

    kernels = verb("bench kernels", "our kernels, beside others' and the hardware's limits", branch)
    kernels.add_argument("family", nargs="?", metavar="FAMILY", help="as rms_norm; none: all")
    kernels.add_argument(
        "--sizes",
        choices=("sweep", "model"),
        default="sweep",
        help="a range of widths, or an 8B Llama's shapes",
    )
    mode = kernels.add_mutually_exclusive_group()
    mode.add_argument(
        "--compile-only",
        action="store_true",
        help="compile for sm_80, sm_90 and sm_100, and check the machine code; needs no GPU",
    )
    mode.add_argument(
        "--tune", action="store_true", help="measure tile sizes and rewrite this GPU's table"
    )
    mode.add_argument(
        "--check", action="store_true", help="hold results and gradients beside fp64, by dtype"
    )
    kernels.add_argument(
        "--write", action="store_true", help="with --compile-only: renew the checked-in readings"
    )
    kernels.add_argument("--json", dest="json_file", metavar="FILE", help="write the figures here")
    kernels.add_argument("--plots", metavar="DIR", help="draw a picture of each family there")

    data = verb("bench data", "speed of the data, beside the usual ways to read it", branch)
    data.add_argument(
        "--tokens", type=_positive, default=100_000_000, metavar="N", help="made once, then kept"
    )
    data.add_argument("--sequence-length", type=_positive, default=4096, metavar="N", help="tokens")
    data.add_argument("--tokenizer", metavar="FOLDER", help="none: one is trained")
    data.add_argument("--repeats", type=_positive, default=3, metavar="N", help="of each figure")
    data.add_argument("--json", dest="json_file", metavar="FILE", help="write the figures here")
    data.add_argument("--plots", metavar="DIR", help="draw the figures there")

    curation = verb("bench curation", "planted documents: precision, recall, cost a rule", branch)
    curation.add_argument(
        "--documents", type=_positive, default=200, metavar="N", help="clean ones to plant among"
    )
    curation.add_argument("--json", dest="json_file", metavar="FILE", help="write the figures here")


def _branch(parser: argparse.ArgumentParser) -> Any:
    return parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser).add_parser


def _recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="YAML file, or the name of a shipped recipe"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="replaces a key, as in model.layers=8",
    )


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="checkpoint folder or run directory"
    )


def _debug(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=default, help="show the whole trace of an error"
    )


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return number


def _seed(text: str) -> int:
    number = _count(text)
    if number >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is too large a seed: give one below 2^63")
    return number


def _bytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 1 <= number < 1e21:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, as 1e12")
    return number


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return number
