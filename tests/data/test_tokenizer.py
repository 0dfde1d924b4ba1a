"""The tokenizer: exact round trips, the same bytes each time, and the Hugging Face format."""

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from trainer.data.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer, train_tokenizer
from trainer.errors import DataError, RecipeError

TEXTS = [
    "shutil.copytree(src, dst, symlinks=False)\n\nRecursively copy a directory tree.",
    "    Indented code:\n\n        >>> copytree('a', 'b')\n        'b'",
    "Grüße, 世界 🙂 naïve — résumé",
] * 20
TRAINED = train_tokenizer(TEXTS, 340)


@given(st.text())
def test_every_unicode_text_comes_back_exactly(text: str) -> None:
    """Would catch normalization, a prefix space, or a character without a token."""
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert all(0 <= token < TRAINED.size for token in ids)


@given(st.lists(st.sampled_from([END_OF_TEXT, "<|", "|>", " ", "a", "\n"]), max_size=8))
def test_no_text_can_forge_the_end_of_a_document(pieces: list[str]) -> None:
    """Would catch a text that spells the special token and is cut in two by it."""
    text = "".join(pieces)
    ids = TRAINED.encode(text)
    assert TRAINED.end_of_text not in ids
    assert TRAINED.decode(ids) == text


def test_a_continuation_has_the_space_between_it_and_its_prompt(tmp_path: Path) -> None:
    """Would catch Llama 2's decoder, which takes the space off the first word that it is given."""
    words = ["<s>", "</s>", "▁the", "▁river", "▁runs", "▁", "s", "<0xE6>", "<0xB2>", "<unk>"]
    numbered = {word: number for number, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbered, "<unk>"))
    parts = [tokenizers.decoders.Replace("\u2581", " "), tokenizers.decoders.ByteFallback()]
    parts += [tokenizers.decoders.Fuse(), tokenizers.decoders.Strip(" ", 1, 0)]
    backend.decoder = tokenizers.decoders.Sequence(parts)
    backend.add_special_tokens(["<s>", "</s>"])
    files = {"tokenizer.json": backend.to_str().encode()}
    files["tokenizer_config.json"] = b'{"eos_token": "</s>"}'
    tokenizer = Tokenizer(files, "the test's tokenizer")
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for prompt in ([2], [0, 2], [2, 3], []):
        for ids in ([3, 4], [6], [5, 6], [7, 8], [4, 7], []):
            whole = theirs.decode([*prompt, *ids])
            assert tokenizer.decode(prompt) + tokenizer.decode_behind(prompt, ids) == whole
    assert tokenizer.decode([3, 4]) == "river runs", "the negative control"
    assert tokenizer.decode_behind([2], [3, 4]) == " river runs"


def test_training_twice_gives_the_same_bytes() -> None:
    """Would catch merges whose order depends on hashing or threads."""
    assert train_tokenizer(iter(TEXTS), 340).files == TRAINED.files


def test_training_learns_and_keeps_to_the_size() -> None:
    """The negative control of the round trips: bytes alone would pass them."""
    assert TRAINED.size == 340 and TRAINED.end_of_text == 0
    assert len(TRAINED.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_saved_and_loaded_it_is_the_same_and_transformers_agrees(tmp_path: Path) -> None:
    """Would catch a folder that Hugging Face tools cannot read or read differently."""
    TRAINED.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.files == TRAINED.files and again.fingerprint == TRAINED.fingerprint
    again.save(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").fingerprint == TRAINED.fingerprint

    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tmp_path)
    samples = [*TEXTS[:3], "", " x", "  two  spaces ", "don't , stop .", "\x00\u200d\ufeff"]
    for text in samples:
        assert theirs.encode(text, add_special_tokens=False) == TRAINED.encode(text)
        assert theirs.decode(TRAINED.encode(text)) == text
    assert (theirs.eos_token, theirs.eos_token_id) == (END_OF_TEXT, TRAINED.end_of_text)


def test_a_batch_is_encoded_as_each_text_alone() -> None:
    """Would catch padding or truncation in the batch."""
    assert TRAINED.encode_batch(TEXTS[:3]) == [TRAINED.encode(text) for text in TEXTS[:3]]


def test_a_foreign_tokenizer_adds_truncates_and_pads_nothing(tmp_path: Path) -> None:
    """Would catch a begin token, a cut at 4 tokens, or padding of the folder's own setting."""
    foreign = tokenizers.Tokenizer.from_str(
        train_tokenizer(TEXTS, 300).files["tokenizer.json"].decode()
    )
    foreign.add_special_tokens(["<s>", "</s>"])
    foreign.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", foreign.token_to_id("<s>"))]
    )
    foreign.enable_truncation(4)
    foreign.enable_padding(length=64)
    foreign.save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": {"content": "</s>", "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer.encode(TEXTS[0])
    assert tokenizer.decode(ids) == TEXTS[0]
    assert tokenizer.end_of_text == foreign.token_to_id("</s>") == tokenizer.size - 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no tokenizer.json"),
        ({"tokenizer.json": "{"}, "is not a tokenizer"),
        ({"tokenizer_config.json": "["}, "is damaged"),
        ({"tokenizer_config.json": '{"eos_token": "<end>"}'}, "no token '<end>'"),
    ],
)
def test_a_bad_tokenizer_folder_is_one_line(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    """Would catch a stack trace of the library, or a tokenizer without an end of document."""
    if files:
        TRAINED.save(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    """Would catch a tokenizer that loses characters in silence."""
    with pytest.raises(RecipeError, match="at least 259"):
        train_tokenizer(TEXTS, 256)


@pytest.mark.parametrize("in_files", [True, False])
def test_named_templates_are_read_and_saved_as_transformers_has_them(
    tmp_path: Path, in_files: bool
) -> None:
    """Would catch a template for tools that an import or an export loses."""
    TRAINED.save(tmp_path / "plain")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "plain")
    theirs.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    theirs.save_pretrained(tmp_path / "named", save_jinja_files=in_files)
    ours = load_tokenizer(tmp_path / "named")
    assert ours.chat_template == "{{ messages }}"
    assert ours.named_templates == {"tool_use": "{{ tools }}"}
    ours.save(tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert saved.chat_template == theirs.chat_template
    ours.speaking("{{ messages }}").save(tmp_path / "same")
    same = AutoTokenizer.from_pretrained(tmp_path / "same")
    assert same.chat_template == theirs.chat_template
    ours.speaking("{{ roles }}").save(tmp_path / "other")
    assert AutoTokenizer.from_pretrained(tmp_path / "other").chat_template == "{{ roles }}"
    assert load_tokenizer(tmp_path / "other").named_templates == {}


def test_a_template_is_not_written_elsewhere(tmp_path: Path) -> None:
    """Would catch a published name that leads out of the folder."""
    templates = [{"name": "default", "template": "d"}, {"name": "../../x", "template": "x"}]
    config = json.loads(TRAINED.files["tokenizer_config.json"]) | {"chat_template": templates}
    named = Tokenizer(TRAINED.files | {"tokenizer_config.json": json.dumps(config).encode()}, "")
    with pytest.raises(DataError, match="cannot be named"):
        named.speaking("d")


def test_a_run_in_place_of_its_tokenizer_is_told_where_that_is(tmp_path: Path) -> None:
    """Catches a reader who is sent to look for another tokenizer than the one at hand."""
    inside = tmp_path / "run/checkpoints/step-00000008/tokenizer"
    train_tokenizer(["a text"], 259).save(inside)
    for folder in (tmp_path / "run", inside.parent):
        with pytest.raises(DataError) as error:
            load_tokenizer(folder)
        assert str(error.value) == f"no tokenizer.json in {folder}: give {inside}"
