"""Conversations and preferences: from files of examples to marked tokens."""
