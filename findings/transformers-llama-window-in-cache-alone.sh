#!/usr/bin/env bash
# transformers 5.23.0: a Llama with a sliding_window in its config.json writes other text with a cache.
#
# What runs: a small random Llama whose configuration has one more key, sliding_window, as folders have
# that were converted from Mistral or Qwen; it goes on greedily with a text, with the cache and without.
# Seen: two different continuations. Llama's attention knows no window, and its masks are causal; the
# cache makes its layers by the configuration's sliding_window, and forgets what is older. Without the
# key both ways write the same. No warning is given.
# Hoped for: one text either way: the key read by both, or by neither.
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

prompt = torch.arange(12)[None]


def texts(**more):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        **more,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    return [
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=24,
            use_cache=cached,
        )[0, 12:].tolist()
        for cached in (True, False)
    ]


plain, windowed = texts(), texts(sliding_window=8)
print("transformers", transformers.__version__, "torch", torch.__version__)
print("without the key, the same either way:", plain[0] == plain[1])
print("with it, cached:  ", windowed[0])
print("with it, uncached:", windowed[1])
assert plain[0] == plain[1] == windowed[1], "this has changed"
assert windowed[0] != windowed[1], "this has changed"
PYTHON
