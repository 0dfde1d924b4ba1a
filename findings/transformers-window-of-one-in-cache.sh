#!/usr/bin/env bash
# transformers 5.23.0: a sliding window of 1 sees one token without a cache, and all tokens with it.
#
# What runs: a small random Mistral with sliding_window=1, so that a token sees itself alone. The logits
# behind a text of 24 tokens are computed in one call without a cache, and token by token with one.
# Seen: they differ by much more than rounding; with sliding_window=2 they are equal. The cache of such a
# layer keeps its last sliding_window - 1 tokens by a slice from -sliding_window + 1 on: for 1 that is a
# slice from 0 on, which is every token, and each of them is attended to.
# Hoped for: no token is kept, and generation continues the text that the model reads without a cache.
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


def difference(window: int) -> float:
    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        sliding_window=window,
    )
    model = transformers.MistralForCausalLM(config).eval()
    text = torch.randint(0, 64, (1, 24))
    with torch.no_grad():
        whole = model(text, use_cache=False).logits[0, -1]
        cache = transformers.DynamicCache(config=config)
        for token in text.split(1, dim=1):
            last = model(token, past_key_values=cache).logits[0, -1]
    return (whole - last).abs().max().item()


print("transformers", transformers.__version__, "torch", torch.__version__)
print("a window of 2:", difference(2))
print("a window of 1:", difference(1))
assert difference(2) < 1e-4, "this has changed"
assert difference(1) > 0.01, "this has changed"
PYTHON
