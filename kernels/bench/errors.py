"""What a user of the benchmarks and of the gate can cause; each is one line."""


class BenchError(ValueError):
    """The command asks for something that is not there, or not on this machine."""


class GateFailed(Exception):
    """A kernel does not compile as it should; the problems have been printed."""


class CheckFailed(Exception):
    """A kernel is not within its bound of fp64; the table has been printed."""
