"""Models in GGUF files, the format of llama.cpp, both ways.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""
