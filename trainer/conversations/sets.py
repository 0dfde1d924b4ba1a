"""Sets for fine-tuning: files of examples, rendered, tokenized and stored in shards."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

import trainer
from trainer.addresses import without_secrets
from trainer.conversations.columns import SetNames, set_names
from trainer.conversations.examples import marked_examples, usable_by
from trainer.conversations.forms import NAMES
from trainer.conversations.marking import ExampleCounts, Marked
from trainer.conversations.pairs import FIELDS
from trainer.conversations.records import ExampleFilter
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import content_hash
from trainer.corpus.build.writer import Sample, ShardWriter
from trainer.corpus.reading.files import InputFile, list_files
from trainer.data.manifest import MANIFEST_NAME, Manifest, Shard, total_split, write_manifest
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import DataError, RecipeError
from trainer.files import build_lock, cache_folder
from trainer.hub.names import is_address
from trainer.recipe.fine_tuning import BalanceSection, ConversationsSection
from trainer.recipe.own_sets import own_folder, own_set_of

if TYPE_CHECKING:
    from trainer.recipe import Recipe

log = logging.getLogger(__name__)

RULES = 5
"""Version of the builder: raised when the same files would give other shards."""
NEW_SETTINGS = {
    *("named_templates", "columns", "roles", "template_variables"),
    *("rewriting", "same_role", "special_tokens"),
}
"""Settings that the builder of rules 1 did not have."""
UNREAD_SHOWN = 24
EXAMPLES = "examples.jsonl"
"""In the folder of a set of the run's own samples: its examples."""
MADE_OF = "set.json"
"""Beside them: what they were made of."""
_NOT_OF_A_SET = ("neftune_alpha", "template", "balance", "refusals", "factuality")
"""Keys of `conversations` that do not decide what becomes of a set, or stand apart."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")


def is_set(source: str) -> bool:
    """Whether an entry of the mixture names files of examples, and no corpus."""
    if is_address(source) or own_set_of(source) is not None:
        return True
    name = source.partition("?")[0].lower()
    for compression in (".gz", ".zst"):
        name = name.removesuffix(compression)
    return name.endswith(SUFFIXES)


def template_of(recipe: "Recipe") -> ChatTemplate:
    """The template that writes the examples of a recipe's sets.

    Raises RecipeError where there is no tokenizer, or what ChatTemplate raises.
    """
    if recipe.tokenizer is None:
        raise RecipeError(
            "tokenizer: fine-tuning takes that of init_from, and there is none; name a folder"
        )
    section = recipe.conversations
    return ChatTemplate(
        load_tokenizer(recipe.tokenizer),
        section.template,
        section.system,
        section.template_variables,
    )


def usable_in_own_set(recipe: "Recipe") -> ExampleFilter:
    """Whether an example would be used in a set of the run's own samples, asked of one at a time.

    Of judged answers pairs are asked: which answer stands beside one is not known before. Raises
    RecipeError for a template that cannot be used.
    """
    kind = recipe.stage_traits.corpora(recipe)[0]
    template = template_of(recipe)
    template.check()  # or each example would be one that cannot be used
    return usable_by(
        "conversations" if kind == "conversations" else "pairs",
        template,
        _of_own_set(recipe.conversations),
        recipe.sequence_length,
        _rows(recipe, template),
    )


def ensure_set(recipe: "Recipe", source: str) -> Path:
    """The folder of a set's shards, built where it is absent: in the cache, or of a set of the
    run's own samples beside its examples, in the run.

    Of several processes one builds. Raises RecipeError for a template that cannot be used,
    DataError naming file and number for an example that cannot, or where none is left.
    """
    kind = recipe.stage_traits.corpora(recipe)[0]
    assert kind != "documents", "only stages that read sets come here"
    section, template = recipe.conversations, template_of(recipe)
    template.check()
    entries = [entry for entry in recipe.data.mixture if entry.corpus == source]
    names = set_names(entries[0], section, FIELDS) if entries else NAMES
    own = _own_examples(recipe, source)
    files = list_files([source if own is None else str(own)], recipe.data.remote.access)
    settings = {
        "kind": kind,
        "source": source.partition("?key=")[0] if own else without_secrets(source),
        "template": template.text,
        "sequence_length": recipe.sequence_length,
        "tokenizer": template.tokenizer.fingerprint,
        "builder_rules": RULES,
        "named_templates": template.raw_tokenizer.named_templates,
        "columns": dict(names.columns),
        "roles": dict(names.roles),
        **section.model_dump(mode="json", exclude=set(_NOT_OF_A_SET)),
    }
    if section.balance.counterfactual:
        settings["balance"] = section.balance.model_dump(mode="json")
    if (rows := _rows(recipe, template)) is not None:
        settings["rows"] = rows
    if own is not None:
        # Its content alone counts: a run that was copied or moved keeps its shards.
        settings["examples"] = hashlib.sha256(own.read_bytes()).hexdigest()
        folder, files = own.parent / "shards", []
    else:
        folder = cache_folder("sets")
    out = folder / _key(settings, files)
    if (older := _older(recipe, settings, files, folder)) is not None:
        return older
    try:
        with build_lock(out):
            if not (out / MANIFEST_NAME).is_file():
                _build(recipe, kind, template, names, settings, source, own, out)
    except OSError as error:
        raise DataError(
            f"cannot build the set {source} in {out}: {error.strerror or error}; free space there,"
            " or point LYCEUM_CACHE elsewhere"
        ) from error
    return out


def _own_examples(recipe: "Recipe", source: str) -> Path | None:
    """The examples of a set of the run's own samples; None of any other set.

    Raises DataError where they are not there.
    """
    if (name := own_set_of(source)) is None:
        return None
    path = own_folder(Path(recipe.run), name) / EXAMPLES
    if not path.is_file():
        raise DataError(
            f"{path}, the set of conversations.{name}, is not there: restore it, or go on with its"
            " run, which asks its model again"
        )
    return path


def _of_own_set(section: ConversationsSection) -> ConversationsSection:
    """A model may write anything, as a special token's letters, and nobody can mend it; and what is
    swapped in its answers, it was not asked.
    """
    return section.model_copy(update={"malformed": "drop", "balance": BalanceSection()})


def _rows(recipe: "Recipe", template: ChatTemplate) -> int | None:
    """The rows of a base's embedding where its tokenizer has more tokens; None where it has not.

    Added tokens make it grow.
    """
    model = recipe.model
    if model.vocab is None or recipe.added_tokens or recipe.added_special_tokens:
        return None
    used = model.vocab - model.padding_rows
    return used if used < template.tokenizer.size else None


def _older(
    recipe: "Recipe", settings: dict[str, Any], files: list[InputFile], folder: Path
) -> Path | None:
    """The set in the folder as an earlier builder made it, for a run that has begun with it; None
    if none is there.

    A saved position and stored references belong to those very shards. A new run has them built
    anew, as they are read now.
    """
    if not any((Path(recipe.run) / "checkpoints").glob("step-*")):
        return None
    earlier = {key: held for key, held in settings.items() if key != "rows"}
    first = {key: held for key, held in earlier.items() if key not in NEW_SETTINGS}
    for rules in range(RULES - 1, 0, -1):
        known = first if rules == 1 else earlier
        out = folder / _key(known | {"builder_rules": rules}, files)
        if (out / MANIFEST_NAME).is_file():
            break
    else:
        return None
    log.warning(
        "the run in %s goes on with the set %s as an earlier version has read it, in %s; a new run"
        " reads it anew",
        *(recipe.run, settings["source"], out),
    )
    return out


def _key(settings: dict[str, Any], files: list[InputFile]) -> str:
    parts = [settings, [file.identity for file in files]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _build(
    recipe: "Recipe",
    kind: Literal["conversations", "pairs", "judged"],
    template: ChatTemplate,
    names: SetNames,
    settings: dict[str, Any],
    source: str,
    own: Path | None,
    out: Path,
) -> None:
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    log.info("reading the set %s", settings["source"])
    section, counts = recipe.conversations, ExampleCounts()
    if own is not None:
        if section.balance.counterfactual:
            log.info("%s: conversations.balance leaves it, whose answers are verified ones", source)
        section = _of_own_set(section)
    writers = {
        split: ShardWriter(partial, split, "uint32", section.shard_tokens)
        for split in ("train", "validation")
    }
    length = recipe.sequence_length
    rows = settings.get("rows")
    examples = marked_examples(
        [source if own is None else str(own)],
        kind,
        template,
        section,
        length,
        counts,
        names=names,
        rows=rows,
        access=recipe.data.remote.access,
    )
    last = b""
    questions = [] if own is None else _questions_of(own)
    for example, sample in _samples(examples):
        # All examples of a question are on one side: they say the same of it.
        identity = questions[example.place.number - 1] if questions else example.identity
        held_out = int(identity[:16], 16) < section.validation * 2**64
        writers["validation" if held_out else "train"].add(sample, example.identity)
        if held_out:
            # Sequences of one example stand one behind the other, a counterfactual beside it last.
            counts.held_out += sample.about != last and not example.beside
            last = sample.about
    if section.validation and writers["validation"].empty:
        # A small set holds out one example all the same: there is something to evaluate on.
        for sample in writers["train"].give_up_first():
            writers["validation"].add(sample, "")
            counts.held_out = 1
    shards: dict[str, list[Shard]] = {name: writer.close() for name, writer in writers.items()}
    if not shards["train"]:
        raise DataError(
            f"{source}: none of its {counts.read} examples is left to train on"
            f" ({counts.dropped_long} too long, {counts.malformed} malformed, the rest held out by"
            " conversations.validation): see conversations.too_long and sequence_length"
        )
    made_of = {}
    if own is not None:
        made_of = {"asked": json.loads((own.parent / MADE_OF).read_bytes())}
    template.tokenizer.save(partial / "tokenizer")
    write_manifest(
        partial,
        Manifest(
            tokenizer_fingerprint=template.tokenizer.fingerprint,
            tokenizer_files=template.tokenizer.hashes,
            tokenizer_size=template.tokenizer.size,
            end_of_text=template.tokenizer.end_of_text,
            token_dtype="uint32",
            splits={name: total_split(made) for name, made in shards.items() if made},
            provenance={
                "builder": f"lyceum {trainer.__version__}",
                "settings": settings,
                "examples": counts.as_json(),
                **made_of,
            },
            kind=kind,
        ),
    )
    partial.rename(out)


def _questions_of(own: Path) -> list[str]:
    """The question of each example of the run's own, as a SHA-256 in hex."""
    with own.open("rb") as lines:
        asked = [orjson.loads(line)["about"]["id"] for line in lines]
    return [content_hash(one) for one in asked]


def counts_line(source: str, counts: ExampleCounts) -> str:
    """A one-line summary: the examples used, dropped and cut, what was done to them, and the keys
    that nothing reads.
    """
    held = f", {counts.held_out:,} of them held out for validation" if counts.held_out else ""
    parts = [f"{counts.used:,} of {counts.read:,} examples{held}"]
    if counts.sequences not in (0, counts.used):
        parts.append(f"{counts.sequences:,} sequences of {counts.used:,} conversations")
    parts += [f"{counts.added:,} counterfactual ones added"] if counts.added else []
    parts += [f"{counts.dropped_long:,} too long"] if counts.dropped_long else []
    if counts.sequences_long:
        parts.append(f"{counts.sequences_long:,} sequences of others too long")
    parts += [f"{counts.cut:,} cut"] if counts.cut else []
    if counts.malformed:
        parts.append(f"{counts.malformed:,} malformed, the first: {counts.first_malformed}")
    parts += [f"{number:,} with {kind}" for kind, number in counts.flattened.items()]
    parts += [f"{number:,} with {change}" for change, number in counts.changes.items()]
    if counts.unread:
        unread = sorted(counts.unread.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{key} ({number:,})" for key, number in unread[:UNREAD_SHOWN])
        more = f" and {len(unread) - UNREAD_SHOWN} more" if len(unread) > UNREAD_SHOWN else ""
        parts.append(f"keys that nothing reads: {shown}{more}")
    share = counts.targets / max(counts.tokens, 1)
    return f"{source}: {'; '.join(parts)}; {share:.1%} of {counts.tokens:,} tokens are supervised"


def _samples(examples: Iterator[Marked]) -> Iterator[tuple[Marked, Sample]]:
    """Each example, and as it is stored."""
    for number, example in enumerate(examples):
        about = {
            # As a corpus names a document's copy.
            "id": f"{example.place}{'#counterfactual' * example.counterfactual}",
            "source": example.place.file,
            "characters": example.characters,
        }
        yield (
            example,
            Sample(
                key=f"{number:014d}",
                about=orjson.dumps(about),
                tokens=example.tokens.astype("<u4").tobytes(),
            ),
        )
