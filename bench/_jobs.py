"""The jobs that the benchmarks run: one module, so that workers can import what the scripts submit."""

import time


def add(x: int, y: int) -> int:
    """The no-op job: small enough that what is measured is everything around it."""
    return x + y


def one_more(x: int) -> int:
    """`add(x, 1)` for calls that give one argument."""
    return add(x, 1)


def nap(seconds: float) -> float:
    """A job of a given length that needs no processor; returns how long it took."""
    begin = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - begin
