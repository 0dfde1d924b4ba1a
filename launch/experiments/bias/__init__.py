"""The bias gap of pronouns, and texts with a known skew of them."""
