"""Fused operators behind one dispatch rule; imports nothing of the trainer."""
