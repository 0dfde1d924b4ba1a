"""From file and overrides to a recipe, or to one clear line."""

import json
import re
from pathlib import Path

import pytest

from launch.local import RECIPES, find_recipe
from tests.recipe.recipes import TEXT, changed, written
from trainer.errors import RecipeError
from trainer.recipe import Recipe, load_recipe


def refusal(folder: Path, *overrides: str, text: str = TEXT) -> str:
    """The one line that this recipe is refused with."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(folder, text), overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_overrides_win_over_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    """Catches overrides applied before the file, or in the wrong order."""
    recipe = changed(tmp_path, "model.layers=2", "model.layers=8", "run=a=b")
    assert recipe.model.layers == 8
    assert recipe.run == "a=b"


def test_override_reaches_a_section_that_the_file_leaves_out(tmp_path: Path) -> None:
    """Catches overrides that only replace what is already written."""
    recipe = changed(tmp_path, "profile.steps=[3, 5]", "model.rope_scaling.factor=8.0")
    assert recipe.profile.steps == (3, 5)
    assert recipe.model.rope_scaling is not None
    assert recipe.model.rope_scaling.factor == 8.0


def test_an_override_reaches_an_item_of_a_list(tmp_path: Path) -> None:
    """Catches a key that errors name, and that nobody can set without writing the list anew."""
    mixture = "data.mixture=[{corpus: a, weight: 2}, {corpus: b}]"
    recipe = changed(tmp_path, mixture, "data.mixture.1.epochs=3", "data.mixture.0={corpus: c}")
    assert [part.corpus for part in recipe.data.mixture] == ["c", "b"]
    assert [part.epochs for part in recipe.data.mixture] == [None, 3]
    for item in ("2.epochs=3", "first.epochs=3", "2=3", "-1.epochs=3"):
        assert "is a list of 2 items" in refusal(tmp_path, mixture, f"data.mixture.{item}")
    assert "steps has no keys below it" in refusal(tmp_path, "steps.0=1")
    assert "command line: data.mixture.1.epochs" in refusal(
        tmp_path, mixture, "data.mixture.1.epochs=many"
    )


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "1.0e-3", "0.001", ".1e-2", "10e-4"])
def test_scientific_notation_is_a_number(tmp_path: Path, number: str) -> None:
    """Catches YAML 1.1's reading of 1e-3 as text."""
    assert changed(tmp_path, f"optimizer.lr={number}").optimizer.lr == 0.001


def test_null_and_booleans_are_what_yaml_says(tmp_path: Path) -> None:
    """Catches values taken as bare text."""
    recipe = changed(tmp_path, "model.kv_heads=null", "model.tied_embeddings=true", "tokenizer=")
    assert recipe.model.kv_heads is None
    assert recipe.model.query_groups == 4
    assert recipe.model.tied_embeddings is True
    assert recipe.tokenizer is None


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("model.layer", "model.layers"),
        ("modle.layers", "model"),
        ("optimiser.lr", "optimizer"),
        ("rope_theta", "model.rope_theta"),
        ("lr", "optimizer.lr"),
        ("batch.sequence", "batch.sequences"),
        ("model.rope_scaling.factr", "model.rope_scaling.factor"),
        ("OPTIMIZER.LR", "optimizer"),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, wrong: str, meant: str) -> None:
    """Catches a misspelt key that silently trains with its default."""
    line = refusal(tmp_path, f"{wrong}=3")
    assert "unknown key" in line
    assert f"did you mean {meant}?" in line


def test_unknown_key_with_no_near_name_lists_the_allowed(tmp_path: Path) -> None:
    """Catches a wild guess offered as a suggestion."""
    line = refusal(tmp_path, "batch.zzzzqqq=3")
    assert "did you mean" not in line
    assert "sequences, micro" in line


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("steps=many", ["steps", "'many'", "a whole number"]),
        ("steps=1.5", ["steps", "1.5", "a whole number"]),
        ("steps=true", ["steps", "True", "a whole number"]),
        ("steps='20'", ["steps", "'20'", "a whole number"]),
        ("steps=0", ["steps", "greater than 0"]),
        ("seed=-1", ["seed", "greater than or equal to 0"]),
        ("optimizer.lr=.nan", ["optimizer.lr", "nan", "finite"]),
        ("optimizer.lr=.inf", ["optimizer.lr", "inf", "finite"]),
        ("optimizer.lr=-1e-3", ["optimizer.lr", "-0.001", "greater than 0"]),
        ("optimizer.betas=[0.9]", ["optimizer.betas"]),
        ("precision=fp16", ["precision", "'fp16'", "'fp32' or 'bf16'"]),
        ("zero.stage=4", ["zero.stage", "4", "less than or equal to 3"]),
        ("model.tied_embeddings=3", ["model.tied_embeddings", "true or false"]),
        ("model=3", ["model", "a section of keys"]),
        ("run=3", ["run", "text"]),
        ("data.mixture=corpora/a", ["data.mixture", "a list"]),
        ("data.mixture=[{weight: 2.0}]", ["data.mixture.0.corpus", "missing"]),
        ("corpus.vocab=100", ["corpus.vocab", "259"]),
    ],
)
def test_wrong_value_names_key_value_and_what_is_allowed(
    tmp_path: Path, override: str, parts: list[str]
) -> None:
    """Catches values coerced into something else, and errors that don't say where."""
    line = refusal(tmp_path, override)
    assert line.startswith("command line: ")
    for part in parts:
        assert part in line


def test_error_in_the_file_names_the_file(tmp_path: Path) -> None:
    """Catches blaming the command line for what the file says."""
    line = refusal(tmp_path, "steps=10", text=TEXT + "precision: fp16\n")
    assert line.startswith(f"{tmp_path / 'recipe.yaml'}: precision")


def test_a_broken_rule_names_who_broke_it(tmp_path: Path) -> None:
    """Catches a sound file blamed for the command line, and a wrong one where keys are added."""
    window = "profile: {steps: [3, 5]}\n"
    file = f"{tmp_path / 'recipe.yaml'}: "
    assert refusal(tmp_path, "model.heads=5").startswith("command line: model.hidden: 64")
    line = refusal(tmp_path, "profile.steps=[5, 3]", text=TEXT + window)
    assert line.startswith("command line: profile.steps")
    wrong = TEXT + window.replace("[3, 5]", "[5, 3]")
    assert refusal(tmp_path, text=wrong).startswith(f"{file}profile.steps")
    assert refusal(tmp_path, "seed=1", text=wrong).startswith(f"{file}profile.steps")
    # Of a file that is a recipe only by the model section of its checkpoint too.
    model = {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 128}
    (tmp_path / "checkpoint.json").write_text(json.dumps({"model": model}))
    without = re.sub("(?m)^model.*$", f"init_from: {tmp_path}", wrong)
    assert refusal(tmp_path, "seed=1", text=without).startswith(f"{file}profile.steps")


def test_a_scaling_of_the_bases_type_is_completed_from_it(tmp_path: Path) -> None:
    """Catches a factor alone that turns a base's YaRN into the default type."""
    yarn = {"type": "yarn", "factor": 4.0, "original_context": 64, "beta_fast": 16.0}
    model = {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 128}
    checkpoint = {"model": model | {"rope_scaling": yarn}}
    (tmp_path / "checkpoint.json").write_text(json.dumps(checkpoint))
    text = re.sub("(?m)^model.*$", f"init_from: {tmp_path}", TEXT)

    def scaling(override: str) -> dict[str, object]:
        found = load_recipe(written(tmp_path, text), [override]).model.rope_scaling
        return {} if found is None else found.model_dump(exclude_defaults=True)

    assert scaling("seed=1") == yarn
    assert scaling("model.rope_scaling.factor=8") == yarn | {"factor": 8.0}
    other = {"type": "dynamic", "factor": 2.0, "original_context": 64}
    assert scaling(f"model.rope_scaling={json.dumps(other)}") == other
    assert scaling("model.rope_scaling=null") == {}


def test_a_scaling_stretches_what_its_base_was_trained_on(tmp_path: Path) -> None:
    """Catches YaRN over a base of 512 tokens computed for 8,192: transformers takes the 512."""
    model = {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 128}
    llama3 = {"type": "llama3", "factor": 8.0, "original_context": 128}
    text = re.sub("(?m)^model.*$", f"init_from: {tmp_path}", TEXT)
    told = "model.rope_scaling={factor: 4.0, type: "

    def original(override: str, base: object = None, trained: int | None = 512) -> int:
        checkpoint: dict[str, object] = {"model": model | {"rope_scaling": base}}
        if trained is not None:
            checkpoint["counters"] = {"longest_sequence": trained}
        (tmp_path / "checkpoint.json").write_text(json.dumps(checkpoint))
        found = load_recipe(written(tmp_path, text), [override]).model.rope_scaling
        assert found is not None and found.factor == 4.0
        return found.original_context

    for kind in ("yarn", "dynamic", "llama3"):
        assert original(told + kind + "}") == 512
    assert original("model.rope_scaling={factor: 4.0}") == 512
    assert original(told + "yarn}", base=llama3) == 512
    assert original(told + "llama3}", base=llama3) == 128
    assert original(told + "yarn, original_context: 64}") == 64
    # Nothing reads it, and a checkpoint of an older version does not say it.
    unread = original(told + "linear}")
    assert unread == original(told + "yarn}", trained=None) == 8192


def test_missing_key_is_named(tmp_path: Path) -> None:
    """Catches a default invented for a key that has none."""
    assert "steps: is missing" in refusal(tmp_path, text=TEXT.replace("steps: 20\n", ""))


def test_missing_keys_are_named_together(tmp_path: Path) -> None:
    """Catches a recipe that is mended key by key, a run of the command each."""
    said = refusal(tmp_path, text="run: r\nmodel: {layers: 1}\n")
    names, mend = said.split(": ", 1)[1].rsplit(": ", 1)
    assert mend == "are missing; give each a value"
    assert {"steps", "sequence_length", "batch", "optimizer", "model.hidden"} <= set(
        names.split(", ")
    )
    # A misspelt key is a missing one too, and its spelling is the cause.
    assert "did you mean steps?" in refusal(tmp_path, text="run: r\nstep: 3\n")


@pytest.mark.parametrize("override", ["steps", "=3", "model..layers=3", ".steps=3"])
def test_override_that_is_not_key_value(tmp_path: Path, override: str) -> None:
    """Catches overrides dropped because they don't parse."""
    assert "KEY=VALUE" in refusal(tmp_path, override)


@pytest.mark.parametrize("override", ["steps=[", "steps={a", "steps=!!python/name:os.system"])
def test_override_whose_value_is_not_yaml(tmp_path: Path, override: str) -> None:
    """Catches a stack trace, or code run by a YAML tag."""
    assert "not YAML" in refusal(tmp_path, override)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "an empty file"),
        ("- steps\n- 3\n", "a list"),
        ("just words\n", "'just words'"),
        ("steps: [1\n", "not YAML"),
        ("steps: 3\nsteps: 4\n", "'steps' stands twice"),
        ("? [a]\n: 3\n", "not YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not YAML"),
    ],
)
def test_file_that_is_no_recipe(tmp_path: Path, text: str, part: str) -> None:
    """Catches a stack trace for a file that is something else, and a key silently given twice."""
    line = refusal(tmp_path, text=text)
    assert "recipe.yaml" in line
    assert part in line


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Catches a stack trace where the file is missing, a folder, or binary."""
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"steps: \xff\xfe")
    for path, part in [
        (tmp_path / "absent.yaml", "no such recipe"),
        (tmp_path, "cannot be read"),
        (binary, "not UTF-8"),
    ]:
        with pytest.raises(RecipeError, match=part) as caught:
            load_recipe(path)
        assert str(path) in str(caught.value)


def test_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    """Catches a value that recipe.yaml does not bring back: it would block a run's resume."""
    recipe = changed(
        tmp_path,
        "optimizer.eps=1e-12",
        "profile.steps=[3,5]",
        "data.mixture=[{corpus: a, weight: 0.3}]",
        "evaluate.prompts=['näive: \"yes\"', 'no', '1e3']",
        "corpus.near_duplicates=null",
        "model.rope_scaling.factor=8.0",
    )
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_recipe_is_frozen(tmp_path: Path) -> None:
    """Catches a recipe that changes under a run."""
    recipe = changed(tmp_path, "evaluate.prompts=[a]")
    with pytest.raises(ValueError, match="frozen"):
        recipe.model.layers = 3  # type: ignore[misc]
    assert isinstance(recipe.evaluate.prompts, tuple)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipe_is_valid_on_its_smallest_world(path: Path) -> None:
    """Catches a shipped recipe that its own validation refuses."""
    recipe = load_recipe(path)
    recipe.validate_world(recipe.parallel.model_ranks, "cuda")
    assert recipe.run == f"runs/{path.stem}"


def test_bare_name_means_a_shipped_recipe_unless_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a shipped recipe that hides a person's own file."""
    monkeypatch.chdir(tmp_path)
    assert find_recipe("tiny") == RECIPES / "tiny.yaml"
    assert find_recipe("absent") == Path("absent")
    Path("tiny").write_text(TEXT)
    assert find_recipe("tiny") == Path("tiny")


def test_every_field_has_a_docstring() -> None:
    """Catches a recipe key that nobody explains."""
    pending, seen = [Recipe], set()
    while pending:
        section = pending.pop()
        seen.add(section)
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
            nested = {k for k in kinds if isinstance(k, type) and hasattr(k, "model_fields")}
            pending.extend(nested - seen)
    assert len(seen) > 15


@pytest.mark.parametrize(
    ("corpus", "text"),
    [
        ("shards/{000..999}.tar", "json[text]"),
        ("https://host/{a..b}/{0..3}.tar?sig=a:b", "meta.json[pages][0][body part]"),
        ("s3://bucket/t-{00..11}.tar.gz::~/{0..1}.tgz", "txt"),
    ],
)
def test_tars_and_fields_need_no_quotes(tmp_path: Path, corpus: str, text: str) -> None:
    """Catches documented values that YAML takes apart where they stand in brackets; and quotes that
    are set where nothing is wrong, as in a template further down.
    """
    entry = f"{{corpus: {corpus}, text: {text}, weight: 2}}"
    template = "{{ messages[0] }} {% if a[b] %}"
    own = f"data:\n  mixture: [{entry}]\nconversations:\n  template: |\n    {template}\n"
    for recipe in (
        load_recipe(written(tmp_path, TEXT + own)),
        changed(tmp_path, f"data.mixture=[{entry}]", f"conversations.template={template!r}"),
    ):
        (part,) = recipe.data.mixture
        assert (part.corpus, part.text, part.weight) == (corpus, text, 2.0)
        assert recipe.conversations.template.strip() == template
    assert "line 1, expected" in refusal(tmp_path, "data.mixture=[{corpus: a[0]b, text: c}]")
