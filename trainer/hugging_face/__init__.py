"""Conversion from and to Hugging Face model folders, checked by the parity of logits."""
