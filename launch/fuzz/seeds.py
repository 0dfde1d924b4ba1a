"""Small valid files of every kind that is damaged, made once by what makes them in earnest."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

WORDS = ("the", "model", "reads", "a", "text", "and", "learns", "which", "word", "comes", "next")


def texts(count: int = 40) -> list[str]:
    """Short, different texts."""
    return [
        f"{n} {' '.join(WORDS[(n * k + k * k) % len(WORDS)] for k in range(8 + n % 40))}."
        for n in range(count)
    ]


def write_seeds(folder: Path) -> None:
    """The folders corpus, checkpoint, run, inputs, tars, sets, model and gguf below `folder`."""
    inputs, tars, sets = (folder / name for name in ("inputs", "tars", "sets"))
    for one in (inputs, tars, sets):
        one.mkdir(parents=True)
    _write_inputs(inputs)
    _write_tars(tars)
    _write_sets(sets)
    _write_corpus(inputs / "a.jsonl", folder / "corpus", folder / "scratch")
    _write_model(folder / "model", folder / "corpus")
    _write_run(folder / "run", folder / "corpus")
    _write_gguf(folder / "gguf" / "model.gguf")


def recipe_keys(**changes: Any) -> dict[str, Any]:
    """A tiny recipe."""
    keys: dict[str, Any] = {
        "run": "runs/fuzz",
        "device": "cpu",
        "steps": 4,
        "sequence_length": 32,
        "model": {"layers": 2, "hidden": 16, "heads": 2, "ffn": 16, "vocab": 320},
        "batch": {"sequences": 2},
        "optimizer": {"lr": 0.01},
        "data": {"workers": 0, "mixture": [{"corpus": "corpus", "weight": 2, "epochs": 3}]},
        "evaluate": {"gates": ["perplexity/bits < 9"], "suites": ["perplexity"]},
        "checkpoint": {"every": 2},
    }
    return keys | changes


def _write_inputs(folder: Path) -> None:
    lines = [json.dumps({"id": f"d{n}", "text": one}) for n, one in enumerate(texts())]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "b.json").write_text(json.dumps([json.loads(line) for line in lines[:9]], indent=1))
    (folder / "c.txt").write_text("\n".join(texts(5)), encoding="utf-8")
    (folder / "d.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[:9]).encode(), mtime=0))
    import pyarrow
    import pyarrow.parquet as parquet

    parquet.write_table(
        pyarrow.table({"text": texts(9), "id": [*"abcdefghi"]}), folder / "e.parquet"
    )


def _write_tars(folder: Path) -> None:
    for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            for number, text in enumerate(texts(6)):
                about = json.dumps({"text": text, "meta": {"pages": [text]}}).encode()
                for member, content in (
                    (f"{number:03d}.txt", text.encode()),
                    (f"{number:03d}.json", about),
                ):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    meta = folder / ".nv-meta"
    meta.mkdir()
    (meta / ".info.yaml").write_text("shard_counts: {a.tar: 6}\n")
    (meta / "split.yaml").write_text("split_parts:\n  train: [a.tar]\n  val: []\nexclude: []\n")
    (meta / "dataset.yaml").write_text(
        "sample_type: {__module__: m, __class__: TextSample}\nfield_map: {text: txt}\n"
    )


def _write_sets(folder: Path) -> None:
    talk: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": "Yes."}]}
        for one in texts(4)
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    call: dict[str, Any] = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    talk[1] = {
        "tools": tools,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "One?"}]},
            {"role": "assistant", "reasoning_content": "Hm.", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "1"},
            {"role": "assistant", "content": "First.", "weight": 1},
        ],
    }
    rows: dict[str, list[dict[str, Any]]] = {
        "messages.jsonl": talk,
        "sharegpt.jsonl": [
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
        ]
        * 3,
        "alpaca.jsonl": [{"instruction": "a", "input": "b", "output": "c"}] * 3,
        "pairs.jsonl": [{"prompt": "a?", "chosen": "b", "rejected": "c"}] * 3,
        "judged.jsonl": [
            {"prompt": "a?", "completion": "b", "label": n % 2 == 0} for n in range(4)
        ],
    }
    for name, records in rows.items():
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))


def _write_corpus(file: Path, out: Path, scratch: Path) -> None:
    from trainer.recipe import Recipe
    from trainer.sources import ensure_corpus

    section = {
        "source": "text",
        "files": [str(file)],
        "path": str(out),
        "vocab": 320,
        "validation": 0.1,
        "minimum_characters": 1,
        "shard_tokens": 300,
        "workers": 1,
        "rules": None,
        "near_duplicates": None,
    }
    keys = recipe_keys(run=str(scratch), corpus=section)
    del keys["data"]
    ensure_corpus(Recipe.from_keys(keys), progress=False)


def _write_model(folder: Path, corpus: Path) -> None:
    """What stands beside the weights of a Hugging Face folder."""
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 320,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "hidden_act": "silu",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [0, 1], "top_p": 0.9})
    )
    for file in (corpus / "tokenizer").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    from trainer.conversations.template import CHATML

    (folder / "chat_template.jinja").write_text(CHATML)


def _write_gguf(path: Path) -> None:
    """A model of two layers in GGUF, its weights zero."""
    import gguf
    import numpy as np

    from trainer.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(texts(), 320)
    content = json.loads(tokenizer.files["tokenizer.json"])
    vocabulary = content["model"]["vocab"] | {
        one["content"]: one["id"] for one in content["added_tokens"]
    }
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    path.parent.mkdir()
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_context_length, 64),
        (writer.add_embedding_length, 16),
        (writer.add_block_count, 2),
        (writer.add_feed_forward_length, 16),
        (writer.add_head_count, 2),
        (writer.add_head_count_kv, 2),
        (writer.add_rope_freq_base, 10000.0),
        (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_rope_dimension_count, 8),
        (writer.add_tokenizer_model, "gpt2"),
        (writer.add_tokenizer_pre, "gpt-2"),
        (writer.add_token_list, names),
        (writer.add_token_types, [3 if name.startswith("<|") else 1 for name in names]),
        (writer.add_token_merges, [" ".join(pair) for pair in content["model"]["merges"]]),
        (writer.add_eos_token_id, tokenizer.end_of_text),
    ):
        add(value)
    shapes = {"token_embd": (len(names), 16), "output_norm": (16,), "output": (len(names), 16)}
    for layer in range(2):
        matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        shapes |= {f"blk.{layer}.{name}": (16, 16) for name in matrices}
        shapes |= {f"blk.{layer}.{name}": (16,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_run(folder: Path, corpus: Path) -> None:
    """A run of four steps, as its files say, and one real checkpoint."""
    import torch

    from trainer.checkpoint import Piece, save_checkpoint
    from trainer.recipe import Recipe

    recipe = Recipe.from_keys(recipe_keys(run=str(folder)))
    weight = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    pieces = [Piece(name, (4, 6), (0, 0), weight) for name in ("model/a", "model/b", "optimizer/a")]
    tokenizer = {
        f"tokenizer/{one.name}": one.read_bytes() for one in (corpus / "tokenizer").iterdir()
    }
    save_checkpoint(
        folder / "checkpoints",
        4,
        pieces,
        model=recipe.model.model_dump(mode="json"),
        counters={"tokens": 256, "step": 4, "longest_sequence": 32},
        attachments={"recipe.yaml": recipe.to_yaml().encode(), **tokenizer},
    )
    steps = [
        {
            "step": n,
            "loss": 5.0 - n / 4,
            "grad_norm": 1.0,
            "lr": 0.01,
            "tokens": 64 * n,
            "supervised_tokens": 64,
            "tokens_per_second": 900.0,
            "step_seconds": 0.1,
            "memory_gib": 0.2,
            "eval/loss": 4.5,
        }
        for n in range(1, 5)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in steps))
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "status.json").write_text(
        json.dumps(
            {"state": "done", "step": 4, "exit_code": 0, "reason": "all steps", "updated": 0.0}
        )
    )
    (folder / "environment.json").write_text(
        json.dumps(
            {"command": ["lyceum"], "ranks": 1, "ranks_a_node": 1, "gpus": [], "packages": {}}
        )
    )
    source = {
        "name": "corpus",
        "corpus": "corpus",
        "folder": str(corpus),
        "kind": "documents",
        "splits": {"train": {"documents": 9, "tokens": 99}},
        "examples": None,
    }
    (folder / "sources.json").write_text(json.dumps({"sources": [source]}))
