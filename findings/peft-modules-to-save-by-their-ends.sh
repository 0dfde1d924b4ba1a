#!/usr/bin/env bash
# peft 0.21.0: modules_to_save=["norm"] trains every norm of the model, not the final one of that name.
#
# What runs: get_peft_model on a Llama of two layers with target_modules=["proj"] (refused: no module of
# that name) and with modules_to_save=["norm"] (the module model.norm).
# Seen: target_modules compares whole last parts of a name (".proj"), modules_to_save plain ends of names
# (str.endswith): input_layernorm and post_attention_layernorm of each layer end with "norm" too, so that
# they are copied, trained and saved without a word. ("model.norm" means the one.)
# Hoped for: the same rule for both, as the same names stand in both lists.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet \
    "peft==0.21.0" "transformers==5.23.0" "torch==2.13.0"
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def adapted(**names):
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads))
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, **names))


try:
    adapted(target_modules=["proj"])
    raise SystemExit("this has changed: proj means q_proj")
except ValueError as error:
    print("target_modules=['proj']:", str(error)[:60], "...")
model = adapted(target_modules=["q_proj"], modules_to_save=["norm"])
trained = sorted(
    name.split(".modules_to_save")[0].removeprefix("base_model.model.")
    for name, parameter in model.named_parameters()
    if "modules_to_save" in name and parameter.requires_grad
)
print("modules_to_save=['norm'] trains", *trained)
print("peft", version("peft"))
assert len(trained) == 5, "this has changed"
PYTHON
echo "still so: the end of a name is enough for modules_to_save"
