"""Job ids and spans."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqtasks import ids

PREFIX = bytes(range(12))
numbers = st.lists(st.integers(0, 200), unique=True).map(sorted)


def test_an_id_is_32_hex_digits_and_back():
    text = ids.job_id(PREFIX, 0xDEADBEEF)
    assert text == "000102030405060708090a0bdeadbeef"
    assert ids.parse_job_id(text) == (PREFIX, 0xDEADBEEF)
    assert ids.parse_job_id("00010203-0405-0607-0809-0A0BDEADBEEF") == (PREFIX, 0xDEADBEEF)


@pytest.mark.parametrize("text", ["", "42", "x" * 32, "0" * 31, "0" * 33, "0" * 24 + "-0x00001", "0" * 30 + "_1"])
def test_what_is_no_id(text):
    with pytest.raises(ValueError, match="32 hex digits"):
        ids.parse_job_id(text)


def test_given_ids():
    assert ids.given_id("000102030405060708090a0bdeadbeef") == (PREFIX, 0xDEADBEEF)
    prefix, counter = ids.given_id("nightly-2026-07-04")
    assert len(prefix) == ids.PREFIX_BYTES
    assert 0 <= counter <= ids.MAX_COUNTER
    assert ids.given_id("nightly-2026-07-04") == (prefix, counter)
    assert ids.given_id("nightly-2026-07-05") != (prefix, counter)
    assert ids.given_id("é" * 100) != ids.given_id("é" * 101)


@given(numbers)
def test_spans_and_back(wanted):
    told = ids.spans(wanted)
    assert list(ids.expand(told)) == wanted
    assert ids.total(told) == len(wanted)
    assert all(first + count < after for (first, count), (after, _) in pairwise(told))


@given(numbers, numbers)
def test_inside(some, others):
    told = ids.spans(others)
    assert ids.inside(some, told) == [n for n in some if n in set(others)]
    assert ids.inside(some, told[::-1]) == [n for n in some if n in set(others)]


def test_inside_does_not_care_how_large_the_spans_are():
    assert ids.inside([1, 5, 2**40], [(2, 2**62)]) == [5, 2**40]
    assert ids.inside([1, 5], [(3, -7), (2**63, 2**63)]) == []


def test_parts_cut_long_spans_and_long_lists():
    told = [(0, 5), (10, 1), (20, 7)]
    cut = list(ids.parts(told, 2, 4))
    assert cut == [[(0, 4)], [(4, 1), (10, 1)], [(20, 4)], [(24, 3)]]
    assert [n for part in cut for n in ids.expand(part)] == list(ids.expand(told))
    assert list(ids.parts([], 2, 4)) == list(ids.parts([(3, 0)], 2, 4)) == []
