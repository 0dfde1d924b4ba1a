"""Thousands of damaged files, each to be read, or refused in one line."""
