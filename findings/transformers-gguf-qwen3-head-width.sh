#!/usr/bin/env bash
# transformers 5.23.0: a Qwen3 of a head width other than 128 cannot be read from a GGUF file.
#
# What runs: a small random Qwen3 with heads 32 wide is written with the gguf package, with
# attention.key_length and attention.value_length as llama.cpp's converter writes them, and is read
# back by from_pretrained(gguf_file=...).
# Seen: a configuration with head_dim 128, the class's own default, and an error about mismatched
# sizes. The table of keys for qwen3 has none for attention.key_length, though that for qwen3_moe has.
# Hoped for: the width that the file says.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "torch==2.13.0" "transformers==5.23.0" \
    "gguf==0.19.0" "accelerate==1.15.0"
cd "$folder"
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
import gguf
import torch
import transformers


def write(model, architecture, add=lambda writer: None):
    config = model.config
    arch = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter("model.gguf", architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{number}" for number in range(config.vocab_size)])
    add(writer)
    for name, weight in model.state_dict().items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(theirs, weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


torch.manual_seed(0)
config = transformers.Qwen3Config(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=64,
)
write(transformers.Qwen3ForCausalLM(config), "qwen3")
read = transformers.AutoConfig.from_pretrained(".", gguf_file="model.gguf")
print("transformers", transformers.__version__, "head_dim of the file: 32, read:", read.head_dim)
assert read.head_dim == 128, "this has changed"
try:
    transformers.AutoModelForCausalLM.from_pretrained(".", gguf_file="model.gguf")
except RuntimeError as error:
    print("refused:", str(error).splitlines()[0])
else:
    raise AssertionError("this has changed")
PYTHON
