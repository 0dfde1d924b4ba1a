"""WebDataset tars that a mixture names: tokenised once into shards of ours, in the cache.

Why once, and not anew whenever a batch is made. What sequence n holds follows from the documents'
lengths in tokens, which only a tokenizer knows: one pass over all tars stands before the first
batch anyway, and its result is worth keeping, 2 or 4 bytes a token. What the stream promises then
holds as for any corpus: a position of a few integers, the same on every world size; checksums of
what is read; totals for `epochs`, for `--show` and for validation. And a tar that is cut short is
named before the first step, not in the third week. The tars themselves are read in one go, from
the disk or as they arrive, and only their text is kept.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trainer
from trainer.addresses import without_secrets
from trainer.corpus.build.plan import cut
from trainer.corpus.build.tar_cache import folder_of, remember, remembered
from trainer.corpus.build.tar_tasks import SPLITS, TarTask, TarWork, account_of, ended_task
from trainer.corpus.reading.quarantine import Tally
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.remote import Transient, Unreachable
from trainer.corpus.reading.webdataset import TarInput, tar_input
from trainer.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Shard,
    load_manifest,
    token_dtype_for,
    total_split,
    write_manifest,
)
from trainer.data.tokenizer import Tokenizer, load_tokenizer
from trainer.errors import DataError
from trainer.files import build_lock
from trainer.recipe.data import MixtureSource, RemoteSection

log = logging.getLogger(__name__)

RULES = 2
"""Version of the builder: raised when the same tars would give other shards."""
SAID = 20
"""How often, at most, a build says how far it is."""
TASK_BYTES = 256 << 20
"""Tars up to this size together are one task: what a stopped build has not to do again."""
SMALLEST_SHARD, BYTES_A_SHARD_TOKEN = 1_000_000, 400_000
"""A shard is full with so many tokens, or with one for so many bytes of all tars (the next power of
two, which a tar more or less does not change), whichever is more: of 1 TB there are then no more
shards than the stream holds in memory with ease, 100,000.
"""


def ensure_tars(
    part: MixtureSource, key: str, tokenizer: str | Path, remote: RemoteSection
) -> Path:
    """The folder of the shards made of the tars that an entry of the mixture names, in the cache,
    built where it is absent.

    `key`: the entry's `corpus` key; `tokenizer`: a Hugging Face folder. Of several processes one
    builds; a stopped build continues behind the last task that ended, also where a tar was brought
    or mended meanwhile: only the tasks whose tars changed are done again. Raises DataError,
    beginning with the key or naming the tar, where one is missing, damaged or cut short, or no
    sample has a text.
    """
    loaded = load_tokenizer(tokenizer, remote)
    given = _listed(part, key, loaded, remote)
    if isinstance(given, Path):
        return given
    out = _folder(part, given, loaded)
    partial = folder_of([_settings(part, given, loaded), sorted(given.excluded)], ".partial")
    try:
        with build_lock(partial):
            if not (out / MANIFEST_NAME).is_file():
                _build(part, key, given, loaded, remote, partial)
                partial.rename(out)
            elif said := load_manifest(out).provenance.get("account"):
                log.info("%s", said)
    except OSError as error:
        raise DataError(
            f"{key}: cannot tokenise {without_secrets(part.corpus)} into {out}:"
            f" {error.strerror or error}; free space there, or point LYCEUM_CACHE elsewhere; what"
            " is done is kept"
        ) from error
    remember(part, _made_with(loaded), out)
    return out


def tars_folder(
    part: MixtureSource, key: str, tokenizer: str | Path, remote: RemoteSection
) -> Path:
    """Where `ensure_tars` builds: named by the tars, their versions, and the tokenizer."""
    loaded = load_tokenizer(tokenizer, remote)
    given = _listed(part, key, loaded, remote)
    return given if isinstance(given, Path) else _folder(part, given, loaded)


def _listed(
    part: MixtureSource, key: str, tokenizer: Tokenizer, remote: RemoteSection
) -> TarInput | Path:
    """The tars of an entry; where their server cannot be asked, what was made of them before."""
    try:
        return tar_input([part.corpus], part.text, key, remote)
    except (Transient, Unreachable) as error:
        made = remembered(part, _made_with(tokenizer))
        if made is None:
            raise
        log.warning("%s; going on with what was tokenised of its tars before, in %s", error, made)
        return made


def _made_with(tokenizer: Tokenizer) -> list[Any]:
    return [tokenizer.fingerprint, RULES]


def _folder(part: MixtureSource, given: TarInput, tokenizer: Tokenizer) -> Path:
    files = {split: [file.identity for file in found] for split, found in given.files.items()}
    settings = _settings(part, given, tokenizer)
    return folder_of([settings, sorted(given.excluded), files])


def _settings(part: MixtureSource, given: TarInput, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "source": without_secrets(part.corpus),
        "text": ", ".join(map(str, given.members)),
        "validation": part.validation,
        "tokenizer": tokenizer.fingerprint,
        "builder_rules": RULES,
    }


def _build(
    part: MixtureSource,
    key: str,
    given: TarInput,
    tokenizer: Tokenizer,
    remote: RemoteSection,
    partial: Path,
) -> None:
    (partial / "tasks").mkdir(parents=True, exist_ok=True)
    total = sum(max(file.bytes, 0) for files in given.files.values() for file in files)
    work = TarWork(
        folder=partial,
        given=given,
        tokenizer=tokenizer,
        options=ReadOptions(text_members=given.members, excluded=given.excluded, remote=remote),
        shard_tokens=max(SMALLEST_SHARD, 1 << (total // BYTES_A_SHARD_TOKEN).bit_length()),
        held_out=0.0 if "validation" in given.files else part.validation,
    )
    tasks = list(_tasks(given))
    source = without_secrets(part.corpus)
    if "validation" in given.files and part.validation != MixtureSource(corpus="").validation:
        log.warning("%s: its part val is held out, and not validation=%g", source, part.validation)
    log.info("tokenising %s, %.1f MiB in %s", *(source, total / 2**20, _tars(tasks)))
    shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
    tally, members = Tally(), Counter[str]()
    for task in tasks:
        ended = ended_task(work, task)
        tally.absorb(Tally.from_summary(ended["tally"]))
        members.update(ended["members"])
        for split, made in ended["shards"].items():
            shards[split] += [Shard(**shard) for shard in made]
        done = task.number + 1
        if len(tasks) > 1 and done * SAID // len(tasks) > task.number * SAID // len(tasks):
            log.info("%s of %s parts of %s are tokenised", done, len(tasks), source)
    texts = sum(shard.documents for made in shards.values() for shard in made)
    if not shards["train"]:
        raise DataError(
            f"{key}: {source} has no text to train on: {account_of(tally, members, texts)};"
            " name the member that is the text, as txt, or json[text] for a field of JSON"
        )
    held_out = sum(shard.documents for shard in shards["validation"])
    account = f"{source}: {account_of(tally, members, texts)}; {held_out:,} held out"
    (log.warning if tally.malformed or tally.passed_over else log.info)("%s", account)
    _keep_only(partial, shards)
    tokenizer.save(partial / "tokenizer")
    write_manifest(
        partial,
        Manifest(
            tokenizer_fingerprint=tokenizer.fingerprint,
            tokenizer_files=tokenizer.hashes,
            tokenizer_size=tokenizer.size,
            end_of_text=tokenizer.end_of_text,
            token_dtype=token_dtype_for(tokenizer.size),
            splits={split: total_split(made) for split, made in shards.items() if made},
            provenance={
                "builder": f"lyceum {trainer.__version__}",
                "settings": _settings(part, given, tokenizer),
                "samples": tally.summary(),
                "account": account,
            },
        ),
    )
    shutil.rmtree(partial / "tasks")


def _keep_only(folder: Path, shards: dict[str, list[Shard]]) -> None:
    """Remove the shards of tasks that were done otherwise before their tars changed."""
    listed = {
        name for made in shards.values() for one in made for name in (one.name, one.index_name)
    }
    for path in folder.glob("*/shard-*"):
        if str(path.relative_to(folder)) not in listed:
            path.unlink()


def _tasks(given: TarInput) -> Iterator[TarTask]:
    number = 0
    for split in SPLITS:
        for files in cut(given.files.get(split, []), TASK_BYTES):
            yield TarTask(number, split, files)
            number += 1


def _tars(tasks: list[TarTask]) -> str:
    count = sum(len(task.files) for task in tasks)
    return f"{count:,} tar{'s' if count > 1 else ''}"
