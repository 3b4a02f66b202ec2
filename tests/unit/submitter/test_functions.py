import types

import pytest

from zmqtasks import payload
from zmqtasks.errors import PayloadError
from zmqtasks.submitter.functions import Shipped, by_name


def main_function(source: str, name: str = "f", **names: object):
    """A function as it looks in a script: its module is __main__, its globals are its own."""
    space: dict[str, object] = {"__name__": "__main__", **names}
    exec(source, space)
    fn = space[name]
    assert isinstance(fn, types.FunctionType)
    return fn


def run(shipped: Shipped, *args: object) -> object:
    return payload.unship(shipped.function.blob)(*args)


def test_what_workers_can_import_goes_by_name() -> None:
    assert by_name(pow)
    assert by_name(payload.ship)
    shipped = Shipped(payload.ship)
    assert shipped.lasting
    assert shipped.fresh()
    assert len(shipped.function.blob) < 100


def test_a_plain_function_of_the_script_is_pickled_once() -> None:
    fn = main_function("K = 3\ndef g(x): return x + K\ndef f(x, y=(1, 'a')): return g(x) * len(y)")
    shipped = Shipped(fn)
    assert shipped.lasting
    assert shipped.fresh()
    assert run(shipped, 2) == 10


@pytest.mark.parametrize("name", ["K", "g"])
def test_it_is_pickled_anew_when_what_it_reads_was_bound_anew(name: str) -> None:
    fn = main_function("K = 3\ndef g(x): return x + K\ndef f(x): return g(x)")
    shipped = Shipped(fn)
    fn.__globals__[name] = 4 if name == "K" else (lambda x: -x)
    assert not shipped.fresh()
    assert run(Shipped(fn), 2) == (6 if name == "K" else -2)


def test_a_global_that_appears_later_counts() -> None:
    fn = main_function("def f(x): return later(x)")
    shipped = Shipped(fn)
    assert shipped.fresh()
    fn.__globals__["later"] = abs
    assert not shipped.fresh()


def test_a_closure_over_a_number_lasts_until_the_number_changes() -> None:
    fn = main_function("def make():\n n = 1\n def up():\n  nonlocal n\n  n += 1\n return lambda: n, up\nf, up = make()")
    shipped = Shipped(fn)
    assert shipped.lasting
    fn.__globals__["up"]()
    assert not shipped.fresh()
    assert run(Shipped(fn)) == 2


@pytest.mark.parametrize(
    "source",
    [
        "L = [1]\ndef f(): return L",
        "L = [1]\ndef f(x=L): return x",
        "def make(l): return lambda: l\nf = make({})",
        "class C: pass\nO = C()\ndef f(): return (lambda: O)()",
    ],
)
def test_what_captures_something_mutable_is_pickled_each_time(source: str) -> None:
    assert not Shipped(main_function(source)).lasting


def test_callables_that_are_no_functions_are_pickled_each_time() -> None:
    assert not Shipped([].append).lasting
    assert run(Shipped("ab".upper)) == "AB"


def test_a_recursive_function_ends() -> None:
    fn = main_function("def f(n): return 1 if n < 2 else n * f(n - 1)")
    assert Shipped(fn).lasting
    assert run(Shipped(fn), 5) == 120


def test_what_cannot_be_pickled_is_named() -> None:
    import threading

    lock = threading.Lock()

    def locked() -> object:
        return lock

    with pytest.raises(PayloadError, match=r"locked.*lock"):
        Shipped(locked)
