#!/usr/bin/env bash
# transformers 5.23.0: under dynamic rope a text is read by the length of a longer one before it.
#
# What runs: a small random Llama with rope_type dynamic, made for 32 positions; it reads a text of 48
# tokens, then another of 96, then the first again, each in a call of its own and without a cache.
# Seen: the logits of the first text differ between its two readings, by much more than rounding.
# The rotation's frequencies are computed anew only where a text is longer than all before it, and are
# put back only where one is shorter than the original context: between the two they are those of the
# longest text that the module has read since. So an evaluation's figures depend on the order of its
# texts, generation on what was generated before, and a training loss on the batches before it.
# Hoped for: frequencies that follow from the text alone, as the same text in a new process gets them.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "torch==2.13.0" "transformers==5.23.0"
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
import torch
import transformers

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
    initializer_range=0.2,
    rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
)
model = transformers.LlamaForCausalLM(config).eval()
text, longer = (torch.randint(0, 64, (1, length)) for length in (48, 96))
with torch.no_grad():
    first = model(text, use_cache=False).logits
    same = model(text, use_cache=False).logits
    model(longer, use_cache=False)
    later = model(text, use_cache=False).logits
print("transformers", transformers.__version__, "torch", torch.__version__)
print("read twice:", (same - first).abs().max().item())
print("read again after a longer text:", (later - first).abs().max().item())
assert torch.equal(first, same), "this has changed"
assert (later - first).abs().max() > 0.01, "this has changed"
PYTHON
