#!/usr/bin/env bash
# lm-eval 0.4.13: a model whose every logit is NaN gets an accuracy, that of always choosing the first.
#
# What runs: a multiple-choice task of four questions, three of which have their first choice as the
# answer, with lm-eval's own Hugging Face model over a Llama whose output weights are NaN, as a run
# that diverged leaves them.
# Seen: "acc" and "acc_norm" are 0.75, without a warning: each log-probability is NaN, and
# numpy.argmax takes the first NaN for the largest.
# Hoped for: an error, a NaN as the score, or a count of the items that have no answer.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet \
    "lm-eval==0.4.13" "transformers==5.23.0" "torch==2.13.0" "accelerate==1.15.0" "datasets==5.2.0"
"$folder/environment/bin/python" -W ignore - 2> "$folder/log" <<'PYTHON' || { cat "$folder/log"; exit 1; }
from importlib.metadata import version

import torch
from datasets import Dataset, DatasetDict
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = ["<s>", "</s>", "is", "it", "yes", "no", "day", "night", "?"]
backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<s>"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
model = LlamaForCausalLM(LlamaConfig(vocab_size=9, max_position_embeddings=32, **sizes))
with torch.no_grad():
    model.lm_head.weight.fill_(float("nan"))

rows = [{"question": "is it day ?", "choices": ["yes", "no"], "label": 0}] * 3
rows += [{"question": "is it night ?", "choices": ["yes", "no"], "label": 1}]
task = {
    "task": "days",
    "custom_dataset": lambda **_: DatasetDict(test=Dataset.from_list(rows)),
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
}
results = simple_evaluate(
    HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1),
    tasks=[task],
    task_manager=TaskManager(include_defaults=False),
    bootstrap_iters=0,
    log_samples=True,
)
likelihoods = [answer[0][0] for one in results["samples"]["days"] for answer in one["resps"]]
print("lm-eval", version("lm-eval"))
print("log-probabilities:", set(map(str, likelihoods)), "accuracy:", results["results"]["days"]["acc,none"])
assert all(value != value for value in likelihoods), "the model's answers are no NaN"
assert results["results"]["days"]["acc,none"] == 0.75, "this has changed"
PYTHON
echo "still so: NaN has an accuracy"
