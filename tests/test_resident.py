"""The measure of memory that other tests rest on."""

from tests.resident import MIB, fresh_process

HELD = 48
SCRIPT = f"""
import resource
from tests.resident import growth_mib
def largest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(growth_mib(lambda: None))
before = largest()
print(growth_mib(lambda: b"x" * ({HELD} * 2**20)))
print((largest() - before) / 1024)
print(growth_mib(lambda: None))
"""


def test_growth_is_seen_below_the_peak_of_the_process_that_started_this_one() -> None:
    """Catches `ru_maxrss`, in which a child has its parent's peak from the start, so that nothing
    it holds below that is growth; and a peak of before that is counted once more.
    """
    parents_own = b"x" * (4 * HELD * MIB)
    nothing, held, by_maxrss, afterwards = map(float, fresh_process(SCRIPT).split())
    assert len(parents_own) == 4 * HELD * MIB
    assert HELD - 1 < held < HELD + 4
    assert nothing < 4 and afterwards < 4
    assert by_maxrss == 0, "what this test is about: ru_maxrss does not see it"
