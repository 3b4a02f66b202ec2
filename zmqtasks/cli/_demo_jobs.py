"""What the jobs of ``zmqtasks demo`` do: plain functions, which the workers import from here."""

from pathlib import Path


def is_prime(number: int) -> bool:
    """Whether a number has no divisor; slow on purpose."""
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def divide(a: int, b: int) -> float:
    """A division; by zero, so that there is an exception to show."""
    return a / b


def flaky(marker: str) -> str:
    """Fails the first time and succeeds the second.

    Args:
        marker: path of a file by which the second attempt knows that there was a first.
    """
    path = Path(marker)
    if not path.exists():
        path.touch()
        raise ConnectionError("the network was down for a moment")
    return "reached it at the second attempt"
