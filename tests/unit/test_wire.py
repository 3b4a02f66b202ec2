"""The wire: golden bytes, closed unions, and decoders that raise nothing but PeerError."""

import json
import typing

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.wire_examples import EXAMPLES, GOLDEN
from zmqtasks import wire
from zmqtasks.errors import PeerError

DIRECTIONS = {
    "ToWorker": (wire.ToWorker, wire.decode_to_worker),
    "FromWorker": (wire.FromWorker, wire.decode_from_worker),
    "ToSubmitter": (wire.ToSubmitter, wire.decode_to_submitter),
    "FromSubmitter": (wire.FromSubmitter, wire.decode_from_submitter),
    "ToOperator": (wire.ToOperator, wire.decode_to_operator),
    "FromOperator": (wire.FromOperator, wire.decode_from_operator),
    "ToBulk": (wire.ToBulk, wire.decode_to_bulk),
    "FromBulk": (wire.FromBulk, wire.decode_from_bulk),
}
EVERYTHING = {kind for union, _ in DIRECTIONS.values() for kind in typing.get_args(union)}
DECODERS = [decode for _, decode in DIRECTIONS.values()]

golden = json.loads(GOLDEN.read_text("ascii"))


def plain(value):
    """A message as the lists and values that a client in another language sees."""
    if isinstance(value, msgspec.Struct):
        fields = [plain(getattr(value, name)) for name in value.__struct_fields__]
        tag = value.__struct_config__.tag
        return fields if tag is None else [tag, *fields]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def test_every_message_has_an_example_and_golden_bytes():
    assert {kind.__name__ for kind in EVERYTHING} == set(EXAMPLES) == set(golden)


def test_tags_are_unique():
    tags = [kind.__struct_config__.tag for kind in EVERYTHING]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("name", golden)
def test_golden_bytes(name):
    data = bytes.fromhex(golden[name])
    assert wire.encode(EXAMPLES[name]) == data, "the bytes of a message changed: see tests/helpers/wire_examples.py"
    assert msgpack.unpackb(data) == plain(EXAMPLES[name])
    assert msgpack.packb(plain(EXAMPLES[name])) == data


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", golden)
def test_each_direction_takes_its_own_messages_only(direction, name):
    union, decode = DIRECTIONS[direction]
    data = bytes.fromhex(golden[name])
    if type(EXAMPLES[name]) in typing.get_args(union):
        assert decode(data) == EXAMPLES[name]
    else:
        with pytest.raises(PeerError, match=f"^{direction}: "):
            decode(data)


@pytest.mark.parametrize("name", golden)
def test_appended_fields_of_a_later_release_are_ignored(name):
    later = msgpack.packb([*plain(EXAMPLES[name]), "a field of a later release"])
    for union, decode in DIRECTIONS.values():
        if type(EXAMPLES[name]) in typing.get_args(union):
            assert decode(later) == EXAMPLES[name]


def test_fields_appended_with_defaults_may_be_missing():
    assert wire.decode_from_worker(msgpack.packb([32, [[1, 2]]])) == wire.Retracted([(1, 2)], [])
    assert wire.decode_from_submitter(
        msgpack.packb([40, b"p", 0, "add", b"", "msgpack", [], [b"a"], []])
    ) == wire.Submit(b"p", 0, "add", b"", "msgpack", wire.Spec(), [b"a"], [])


@pytest.mark.parametrize("name", golden)
def test_a_missing_or_broken_field_is_refused(name):
    parts = plain(EXAMPLES[name])
    if len(parts) == 1:
        return
    _, decode = next((u, d) for u, d in DIRECTIONS.values() if type(EXAMPLES[name]) in typing.get_args(u))
    for broken in (parts[:1], [parts[0], {1: None}, *parts[2:]], [None, *parts[1:]]):
        with pytest.raises(PeerError):
            decode(msgpack.packb(broken))


@pytest.mark.parametrize("name", ["WorkerHello", "SubmitterHello", "OperatorHello"])
def test_hellos(name):
    assert wire.decode_hello(bytes.fromhex(golden[name])) == EXAMPLES[name]


@pytest.mark.parametrize("rest", [[], ["whatever", {"comes": [1, None]}]])
@pytest.mark.parametrize("tag", [1, 2, 3, 99])
def test_a_hello_of_another_version_is_read_as_far_as_it_must(tag, rest):
    with pytest.raises(wire.OtherProtocol) as caught:
        wire.decode_hello(msgpack.packb([tag, "zmqtasks", 2, "9.9.9", *rest]))
    assert (caught.value.protocol, caught.value.release) == (2, "9.9.9")
    assert str(caught.value) == "the peer (zmqtasks 9.9.9) speaks protocol 2, this side speaks 1"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"SSH-2.0", msgpack.packb("zmqtasks"), msgpack.packb([1, "other", 1, "1.0"]),
        msgpack.packb([1, "zmqtasks", "1", "1.0"]), msgpack.packb([1, "zmqtasks", 1, "1.0"]),
        msgpack.packb([99, "zmqtasks", 1, "1.0"]), bytes.fromhex(golden["Heartbeat"]),
        bytes.fromhex(golden["WorkerHello"])[:-1], bytes.fromhex(golden["WorkerHello"]) + b"\0",
    ],
)  # fmt: skip
def test_what_is_no_hello(data):
    assert wire.decode_hello(data) is None


def decode_anything(data):
    for decode in DECODERS:
        try:
            decode(data)
        except PeerError:
            pass
    try:
        wire.decode_hello(data)
    except wire.OtherProtocol:
        pass


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_peer_error(data):
    decode_anything(data)


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(kind.__struct_config__.tag for kind in EVERYTHING)), st.lists(plain_values, max_size=10))
def test_well_formed_nonsense_raises_nothing_but_peer_error(tag, fields):
    decode_anything(msgpack.packb([tag, *fields]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(golden)), st.data())
def test_damaged_messages_raise_nothing_but_peer_error(name, data):
    damaged = bytearray.fromhex(golden[name])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decode_anything(bytes(damaged))


def test_deep_nesting_is_refused():
    decode_anything(b"\x91" * 100_000 + b"\x01")
