#!/usr/bin/env bash
# transformers 5.23.0: a scaled rotation is lost where a model is read from a GGUF file.
#
# What runs: a small random Qwen2 whose rotation is scaled linearly by 4 is written with the gguf
# package, with rope.scaling.type and rope.scaling.factor as llama.cpp's converter writes them, and is
# read back by from_pretrained(gguf_file=...).
# Seen: the configuration that was read has rope_type default, nothing is said, and the logits differ by
# more than their own spread; of the model without the scaling they are those. The table of keys maps
# rope.dimension_count and rope.freq_base, and none of rope.scaling.
# Hoped for: the scaling that the file names, or a warning that it is not applied.
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
config = transformers.Qwen2Config(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    initializer_range=0.2,
    rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
)
model = transformers.Qwen2ForCausalLM(config).eval()


def scaling(writer):
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)


write(model, "qwen2", scaling)
read = transformers.AutoModelForCausalLM.from_pretrained(
    ".", gguf_file="model.gguf", dtype=torch.float32
).eval()
tokens = torch.randint(0, 64, (1, 48))
with torch.no_grad():
    ours, theirs = model(tokens).logits, read(tokens).logits
print("transformers", transformers.__version__, "gguf file's rotation:", read.config.rope_parameters)
print("logits differ by", ((ours - theirs).abs().max() / ours.std()).item(), "of their spread")
assert read.config.rope_parameters["rope_type"] == "default", "this has changed"
assert (ours - theirs).abs().max() > ours.std(), "this has changed"
PYTHON
