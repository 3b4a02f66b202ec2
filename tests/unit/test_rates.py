"""Rates as people write them, and the keys of limits."""

import pytest

from zmqtasks import rates
from zmqtasks.errors import BadOption
from zmqtasks.submitter import options
from zmqtasks.submitter.keys import KeyOf


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/m", 10 / 60), ("100/s", 100.0), ("2000/h", 2000 / 3600), ("1/d", 1 / 86400), ("3/5s", 0.6), ("7", 7.0),
        (" 1.5 / 2 m ", 1.5 / 120), (2.5, 2.5), (0, 0.0), (None, 0.0), ("0/s", 0.0),
    ],
)  # fmt: skip
def test_what_is_a_rate(text, rate):
    assert rates.parse(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    "text", ["", "often", "10/", "/s", "10/w", "-1/s", "1/0s", -1, True, float("nan"), float("inf"), [], "١/s"]
)
def test_what_is_none(text):
    with pytest.raises(BadOption, match="is no rate: write"):
        rates.parse(text)


@pytest.mark.parametrize("text", ["10/m", "100/s", "1/h", "1/d", "2.5/s"])
def test_a_rate_is_shown_as_it_was_written(text):
    assert rates.show(rates.parse(text)) == text
    assert rates.show(0.0) == "no limit"


def send(customer: str, text: str = "", *, urgent: bool = False) -> None: ...


def bound(self: object, customer: str) -> None: ...


@pytest.mark.parametrize(
    ("key", "args", "kwargs", "told"),
    [
        ("customer", ("a",), {}, "a"),
        ("customer", (), {"customer": 7}, "7"),
        ("text", ("a",), {}, ""),
        ("urgent", ("a",), {"urgent": True}, "True"),
        (lambda customer, **_: customer[:1], ("abc",), {}, "a"),
    ],
)
def test_a_key_is_computed_from_the_arguments(key, args, kwargs, told):
    assert KeyOf(send, key, "rate_key", bind=False)(args, kwargs) == told


def test_the_task_itself_is_no_argument():
    assert KeyOf(bound, "customer", "rate_key", bind=True)(("x",), {}) == "x"


def test_a_key_that_cannot_be_is_told():
    with pytest.raises(BadOption, match=r"rate_key='costumer': send has no argument of that name \(it has: customer"):
        KeyOf(send, "costumer", "rate_key", bind=False)
    key = KeyOf(send, "customer", "rate_key", bind=False)
    with pytest.raises(BadOption, match="rate_key= of send cannot be computed from these arguments: TypeError"):
        key((), {})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rate_limit": "often"}, "option rate_limit=: 'often' is no rate"),
        ({"rate_key": "a"}, "option rate_key= needs rate_limit="),
        ({"burst": 3}, "option burst= needs rate_limit="),
        ({"concurrency_key": "a"}, "option concurrency_key= needs concurrency_limit="),
        ({"rate_limit": "1/s", "rate_key": 7}, "option rate_key= is a text, not 7"),
        ({"priority": 10}, "option priority= is a number from 0 to 9"),
        ({"priority": "high"}, "option priority= is a number from 0 to 9"),
        ({"concurrency_limit": -1}, "option concurrency_limit="),
        ({"expires": "soon"}, "option expires= is a number of seconds from now, or a datetime"),
    ],
)
def test_options_that_cannot_be(given, told):
    with pytest.raises(BadOption, match=told):
        options.check(given)


def test_what_becomes_of_options():
    given = options.check(
        {"rate_limit": "10/m", "burst": 2, "rate_key": "k", "concurrency_limit": 3, "priority": 4, "expires": 5}
    )
    spec = options.spec(given, python="", wall=100.0)
    assert (spec.burst, spec.rate_key, spec.cap, spec.priority, spec.expires) == (2, "k", 3, 4, 105.0)
    assert spec.rate == pytest.approx(1 / 6)
    assert options.timed(given)
