"""What ``zmqtasks submit`` says on stderr when it ends."""

from typing import TYPE_CHECKING

from zmqtasks.cli._shared import say
from zmqtasks.words import duration, plural

if TYPE_CHECKING:
    from zmqtasks.cli._feed import Feed
    from zmqtasks.cli._outcomes import Tally


def tell_failures(tally: "Tally", output: str | None, meant: str) -> None:
    """Say what went wrong, unless stdout has it already.

    Args:
        tally: of the jobs.
        output: where the outcomes are; None: nowhere.
        meant: MODULE:FUNCTION that was meant by a task that no worker knows; empty: nobody knows.
    """
    if output != "-":
        for error in tally.first_errors:
            say(error)
        more = tally.failed - len(tally.first_errors)
        if more > 0:
            say(f"… and {more:,} more that failed" + (f", see {output}" if output is not None else ""))
    if meant:
        say(f"a function that can be imported is written MODULE:FUNCTION; did you mean {meant}?")


def tell_sum(feed: "Feed", seconds: float, *, waited: bool) -> None:
    """Say how many jobs ended how."""
    tally = feed.tally
    count = tally.ended if waited else feed.submitted
    rate = f" ({count / seconds:,.0f} jobs/s)" if count > 1 and seconds > 0 else ""
    how = f": {_states(tally) or 'nothing to do'}" if waited else " accepted"
    say(f"{plural(count, 'job')}{how} in {duration(seconds)}{rate}")


def tell_interrupted(feed: "Feed", *, waited: bool) -> None:
    """Say what Ctrl-C or SIGTERM left."""
    if not waited:
        say(f"interrupted: {plural(feed.submitted, 'job')} submitted; those whose id is printed go on")
        return
    words = [f"{plural(feed.cancelled_at_once, 'job')} cancelled before the start"]
    if feed.open:
        words.append(f"{feed.open:,} had started and {'goes' if feed.open == 1 else 'go'} on")
    if not feed.source_ended:
        words.append("the rest was not submitted")
    before = _states(feed.tally, leave_out="cancelled")
    say(f"interrupted: {', '.join(words)}" + (f"; until then {before}" if before else ""))


def _states(tally: "Tally", leave_out: str = "") -> str:
    """How many jobs ended in which state, in words."""
    ended = sorted(tally.states.items(), reverse=True)
    return ", ".join(f"{number:,} {state}" for state, number in ended if state != leave_out)
