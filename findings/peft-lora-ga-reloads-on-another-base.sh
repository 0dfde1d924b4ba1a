#!/usr/bin/env bash
# peft 0.21.0: an adapter that began with LoRA-GA, saved and loaded on the same base, is another model.
#
# What runs: a Llama of two layers, preprocess_loraga and get_peft_model (init_lora_weights="lora_ga");
# save_pretrained; PeftModel.from_pretrained on the base as it was.
# Seen: LoRA-GA subtracts the first adapters from the base's weights, as PiSSA and OLoRA do. Those find the
# same first adapters again when they are loaded, LoRA-GA has no gradients then: the base stays whole, and
# the adapters are added to what they were never taken out of. Neither saving nor loading says a word.
# (save_pretrained with path_initial_model_for_weight_conversion writes a plain LoRA, which is right.)
# Hoped for: a refusal, or a warning, where an adapter is loaded whose base cannot be made again.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet \
    "peft==0.21.0" "transformers==5.23.0" "torch==2.13.0"
"$folder/environment/bin/python" -W ignore - "$folder/adapter" <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraGAConfig, preprocess_loraga
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = torch.arange(32)[None]


def base():
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads)).eval()


def logits(model):
    with torch.no_grad():
        return model.eval()(TOKENS).logits


model = base()
plain = logits(model)
config = LoraConfig(
    task_type="CAUSAL_LM",
    r=2,
    target_modules=["q_proj", "up_proj"],
    init_lora_weights="lora_ga",
    lora_ga_config=LoraGAConfig(),
)
preprocess_loraga(model, config, lambda: model(TOKENS, labels=TOKENS).loss.backward())
adapted = get_peft_model(model, config)
before = logits(adapted)
adapted.save_pretrained(sys.argv[1])
after = logits(PeftModel.from_pretrained(base(), sys.argv[1]))
print(f"logits of base and adapter apart by {(before - plain).abs().max():.1e}, as is meant")
print(f"saved and loaded apart by {(after - before).abs().max():.1e}")
print("peft", version("peft"))
assert (before - plain).abs().max() < 1e-5, "this has changed"
assert (after - before).abs().max() > 1e-3, "this has changed"
PYTHON
echo "still so: a LoRA-GA adapter is added to a base that it was not taken out of"
