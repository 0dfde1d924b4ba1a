"""`lyceum demo`: the whole chain on this machine's own documentation, told as a story."""
