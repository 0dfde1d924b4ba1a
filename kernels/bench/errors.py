"""What a user of the benchmarks and of the gate can cause; each is one line."""


class BenchError(ValueError):
    """The command asks for something that is not there, or not on this machine."""


class GateFailed(Exception):
    """A kernel does not compile as it should; the problems have been printed."""


class CheckFailed(Exception):
    """A kernel is not within its bound of fp64; the table has been printed."""


def line_of(error: Exception, most: int) -> str:
    """The error's name and the first `most` characters of its words, in one line."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(error))
    words = " ".join(printable.split())[:most]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
