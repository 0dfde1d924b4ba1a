"""Importing this loads what every CPU rank needs, so that ranks can be forked in an instant.

Imports of megatron-core take seconds of one core a process: eight ranks on two cores that import
for themselves meet after 24 s, forks of one warm process after 5.
"""

from trainer.collector import importing

with importing():
    from trainer.parallel.cpu import use_cpu

    use_cpu()

    import trainer.loop  # noqa: F401


def load_deepspeed() -> None:
    """Load what only ranks that shard their optimizer need as well."""
    with importing():
        from trainer.parallel.zero.deepspeed import load_whole

        load_whole()
