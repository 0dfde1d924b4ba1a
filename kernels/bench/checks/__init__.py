"""What each family of kernels is held to: its results and gradients beside fp64, by shape."""
