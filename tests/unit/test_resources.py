"""Resources as people write them, and as they are counted."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqtasks import resources
from zmqtasks.errors import BadOption
from zmqtasks.resources import UNIT, parse


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (1, UNIT), (2.0, 2 * UNIT), (0.25, UNIT // 4), (0.29, 2_900), ("0.5", UNIT // 2), (1 / 3, 3_333),
        (Decimal("0.1"), 1_000), ("64GiB", 64 * 1024**3 * UNIT), ("1.5 kB", 1_500 * UNIT), ("2gb", 2 * 10**9 * UNIT),
        ("512 MiB", 512 * 1024**2 * UNIT), ("7B", 7 * UNIT), (".5", UNIT // 2),
    ],
)  # fmt: skip
def test_amounts_are_counted_exactly(value, counted):
    assert parse({"it": value}) == (("it", counted),)


def test_names_stand_in_order_and_nothing_is_as_if_it_was_not_there():
    assert parse({"mem": 1, "gpu": 2, "disk": 0}) == (("gpu", 2 * UNIT), ("mem", UNIT))
    assert parse({}) == ()


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"gpu": -1}, "0 or more, not -1"), ({"gpu": float("nan")}, "not nan"), ({"gpu": "inf"}, "not 'inf'"),
        ({"gpu": float("inf")}, "not inf"), ({"gpu": True}, "not True"), ({"gpu": None}, "not None"),
        ({"gpu": "two"}, "not 'two'"), ({"mem": "3 quarts"}, "no unit 'quarts'"), ({"mem": "-1GiB"}, "not '-1GiB'"),
        ({"gpu": 0.00001}, "less than 1/10,000"), ({"gpu": 1.5}, "a number of whole ones; not 1.5"),
        ({"": 1}, "has a name of letters"), ({"a b": 1}, "has a name of letters"), ({7: 1}, "has a name of letters"),
        ({"mem": "9999PiB"}, "at most"), ({"mem": Decimal("1e999999")}, "more than there can be"),
        (["gpu"], "amounts by name"), ("gpu=1", "amounts by name"), ({f"r{i}": 1 for i in range(33)}, "32 at most"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_and_named(given_, said):
    with pytest.raises(BadOption) as error:
        parse(given_)
    assert said in str(error.value)


@given(st.integers(1, 400))
def test_equal_shares_of_one_fit_into_it(parts):
    ((_, share),) = parse({"gpu": 1 / parts})
    assert share * parts <= UNIT
    assert Fraction(UNIT, parts) - share < 1  # and no more is lost than what is finer than is counted


@given(st.integers(1, resources.MOST))
def test_what_is_told_to_another_process_is_the_same_there(counted):
    assert resources.amount("it", resources.exact(counted)) == counted


def test_amounts_for_people():
    assert resources.show(parse({"gpu": 0.25, "mem": "64GiB", "it": 12_000})) == "gpu 0.25, it 12,000 and mem 64 GiB"
    assert resources.show(parse({"mem": "1.5MiB"})) == "mem 1.5 MiB"


@pytest.mark.parametrize(
    "amounts", [(("b", 1), ("a", 1)), (("a", 1), ("a", 1)), (("a", 0),), (("a", 2**62 + 1),), (("a b", 1),)]
)
def test_amounts_of_a_stranger_are_looked_at(amounts):
    assert resources.flaw(amounts)
