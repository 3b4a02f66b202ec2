"""Arguments, results, functions and exceptions as bytes and back."""

import functools
import pickle
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from math import inf
from uuid import UUID

import pytest

from zmqtasks import errors, payload
from zmqtasks.errors import PayloadError, RemoteError, RemoteTraceback


class Broken(Exception):
    """Pickles, but does not unpickle: its __init__ wants more than its args."""

    def __init__(self, one, two):
        super().__init__(one)
        self.two = two


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError


class Unpicklable:
    def __reduce__(self):
        raise TypeError("this object holds a\nsocket")


def caught(make):
    with pytest.raises(Exception) as one:  # noqa: PT011  (whatever it is)
        fail(make())
    return one.value


def fail(error):
    raise error


@pytest.mark.parametrize("codec", sorted(payload.ALL_CODECS))
def test_calls_and_results(codec):
    args, kwargs = payload.decoder(codec)(payload.encode_call(codec, (1, "two"), {"three": [3.0, None]}, "task"))
    assert (list(args), kwargs) == ([1, "two"], {"three": [3.0, None]})
    assert payload.decoder(codec)(payload.encode_result(codec, {"a": [1]}, "task")) == {"a": [1]}


@pytest.mark.parametrize("codec", ["pickle", "cloudpickle"])
def test_pickles_hold_objects(codec):
    value = {(1, 2), frozenset({3})}
    assert payload.decoder(codec)(payload.encode_result(codec, value, "task")) == value


@pytest.mark.parametrize(
    ("value", "by_msgpack", "by_json"),
    [
        ((1, {2}), [1, [2]], [1, [2]]),
        (date(2020, 1, 2), "2020-01-02", "2020-01-02"),
        (datetime(2020, 1, 2, 3), "2020-01-02T03:00:00", "2020-01-02T03:00:00"),  # noqa: DTZ001  (it has none)
        (datetime(2020, 1, 2, 3, tzinfo=UTC), datetime(2020, 1, 2, 3, tzinfo=UTC), "2020-01-02T03:00:00Z"),
        ([UUID(int=1), Decimal("1.50")], [str(UUID(int=1)), "1.50"], [str(UUID(int=1)), "1.50"]),
        (b"a", b"a", "YQ=="),
        ({1: 2}, {1: 2}, {"1": 2}),
        (inf, inf, None),
    ],
    ids=str,
)
def test_what_is_like_plain_data_travels_as_it(value, by_msgpack, by_json):
    """The table of docs/routing.md."""
    for codec, expected in (("msgpack", by_msgpack), ("json", by_json)):
        assert payload.decoder(codec)(payload.encode_result(codec, value, "task")) == expected


def test_a_function_of_main_goes_by_value(monkeypatch):
    def fn(x):
        return x + 1

    monkeypatch.setattr(fn, "__module__", "__main__")
    monkeypatch.setattr(fn, "__qualname__", "fn")
    assert payload.unship(payload.ship(fn).blob)(1) == 2


def test_plain_data_codecs_refuse_objects_and_name_the_argument():
    with pytest.raises(
        PayloadError, match=r"^photos.resize: argument 2 \(object\) cannot be encoded as msgpack"
    ) as one:
        payload.encode_call("msgpack", (1, object()), {}, "photos.resize")
    assert 'serializer="pickle"' in str(one.value)
    with pytest.raises(PayloadError, match=r"photos.resize: size \(complex\) cannot be encoded as json"):
        payload.encode_call("json", (), {"size": 1j}, "photos.resize")


def test_a_pickle_that_fails_names_the_argument_in_one_line():
    with pytest.raises(PayloadError, match=r"^f: argument 1 \(Unpicklable\) cannot be encoded as pickle: ") as one:
        payload.encode_call("pickle", (Unpicklable(),), {}, "f")
    assert "\n" not in str(one.value)
    assert "serializer" not in str(one.value)


def test_arguments_that_fail_only_together(monkeypatch):
    def fails_for_tuples(value):
        if value == ((1,), {"a": 2}):
            raise ValueError
        return b""

    monkeypatch.setitem(payload._ENCODERS, "msgpack", fails_for_tuples)
    with pytest.raises(PayloadError, match="f: the arguments cannot be encoded as msgpack: ValueError"):
        payload.encode_call("msgpack", (1,), {"a": 2}, "f")


def test_a_result_that_is_refused_names_the_task():
    with pytest.raises(PayloadError, match=r"^photos.resize: the result \(object\) cannot be encoded as json"):
        payload.encode_result("json", object(), "photos.resize")


def test_unknown_codecs_are_named():
    for ask in (payload.encoder, payload.decoder):
        with pytest.raises(
            PayloadError, match=r"no codec is called 'yaml' \(there are: cloudpickle, json, msgpack, pickle\)"
        ):
            ask("yaml")


def test_only_what_is_accepted_is_decoded():
    assert payload.decoder("json", ["json"])(b"1") == 1
    with pytest.raises(PayloadError, match=r"codec 'pickle' is not accepted here \(accepted: json, msgpack\)"):
        payload.decoder("pickle", ["msgpack", "json"])
    with pytest.raises(PayloadError, match="'cloudpickle' is not accepted"):
        payload.unship(payload.ship(len).blob, ["msgpack"])


def test_ship_names_and_digests():
    shipped = payload.ship(payload.read_failure)
    assert shipped.name == "zmqtasks.payload.read_failure"
    assert shipped.digest == payload.function_digest(shipped.blob)
    assert len(shipped.digest) == 16
    assert payload.ship(payload.read_failure) == shipped
    assert payload.unship(shipped.blob) is payload.read_failure


def test_ship_lambdas_and_closures():
    secret = 41
    assert payload.unship(payload.ship(lambda x: x + secret).blob)(1) == 42


def test_ship_refuses_what_cannot_be_called_or_pickled():
    with pytest.raises(PayloadError, match="'text' cannot be called"):
        payload.ship("text")
    holder = Unpicklable()
    with pytest.raises(PayloadError, match=r"function .*<lambda> cannot be pickled: this object holds a socket"):
        payload.ship(lambda: holder)


def test_an_exception_comes_back_as_itself_with_the_remote_traceback():
    error = payload.decode_exception(payload.encode_exception(caught(lambda: KeyError("missing"))))
    assert isinstance(error, KeyError)
    assert error.args == ("missing",)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise error" in str(error.__cause__)
    assert "KeyError: 'missing'" in str(error.__cause__)


def test_one_that_does_not_unpickle_comes_as_a_remote_error():
    data = payload.encode_exception(caught(lambda: Broken(1, 2)))
    assert payload.read_failure(data).pickled == b""
    error = payload.decode_exception(data)
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("test_payload.Broken")
    assert (error.text, str(error)) == ("1", f"{error.type_name}: 1")
    assert "Broken" in error.traceback


def test_pickles_are_decoded_only_if_accepted():
    error = payload.decode_exception(payload.encode_exception(KeyError("k")), ["msgpack", "json"])
    assert isinstance(error, RemoteError)
    assert error.type_name == "builtins.KeyError"


def test_a_class_that_does_not_exist_here():
    data = payload._msgpack.encode(payload.Failure("gone.Away", "text", "trace", b"\x80\x05cgone\nAway\n."))
    error = payload.decode_exception(data)
    assert isinstance(error, RemoteError)
    assert (error.type_name, error.text, error.traceback) == ("gone.Away", "text", "trace")


def test_a_pickle_that_is_no_exception():
    error = payload.decode_exception(payload._msgpack.encode(payload.Failure("x.Y", "t", "", pickle.dumps(42))))
    assert isinstance(error, RemoteError)


def test_a_broken_str_does_not_hide_the_failure():
    told = payload.read_failure(payload.encode_exception(Unprintable()))
    assert told.text == "<Unprintable whose __str__ fails>"


def test_a_gigantic_traceback_is_cut_in_the_middle():
    told = payload.read_failure(payload.encode_exception(ValueError("start" + "x" * 500_000 + "end")))
    assert len(told.traceback) < payload.MAX_TEXT + 100
    assert "characters left out" in told.traceback
    assert told.traceback.startswith("ValueError: start")
    assert told.traceback.rstrip().endswith("end")


def test_recursion_is_an_exception_like_others():
    def recurse():
        return recurse()

    with pytest.raises(RecursionError) as one:
        recurse()
    assert isinstance(payload.decode_exception(payload.encode_exception(one.value)), RecursionError)


@pytest.mark.parametrize("name", ["WorkerLost", "JobCancelled", "TaskNotRegistered", "PayloadError"])
def test_our_own_errors_come_as_themselves(name):
    error = payload.decode_exception(payload.failure(name, "what happened"))
    assert type(error) is getattr(errors, name)
    assert str(error) == "what happened"


@pytest.mark.parametrize("name", ["RemoteError", "Exception", "ValueError", "__doc__", "builtins.KeyError"])
def test_other_names_are_remote_errors(name):
    error = payload.decode_exception(payload.failure(name, "what happened"))
    assert type(error) is RemoteError
    assert (error.type_name, error.text) == (name, "what happened")


def test_a_failure_that_cannot_be_decoded_is_told_as_such():
    assert "cannot be decoded" in str(payload.decode_exception(b"\x92\xa1\x80\xa0"))  # no UTF-8
    error = payload.decode_exception(b"\xc1")
    assert isinstance(error, RemoteError)
    assert "the failure itself cannot be decoded" in str(error)


def test_the_python_that_matters():
    assert payload.python_version() == ".".join(map(str, sys.version_info[:2]))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_what_is_no_exception_does_not_end_the_submitter(kind):
    def leave():
        raise kind("over")

    with pytest.raises(kind) as one:
        leave()
    error = payload.decode_exception(payload.encode_exception(one.value))
    assert type(error) is RemoteError
    assert str(error) == f"builtins.{kind.__name__}: over"
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in leave" in str(error.__cause__)


async def coroutine():
    return 1


async def stream():
    yield 1


class Awaits:
    async def __call__(self):
        return 1


@pytest.mark.parametrize("fn", [coroutine, stream, Awaits(), functools.partial(coroutine)])
def test_async_functions_are_refused(fn):
    with pytest.raises(errors.NotAvailable, match=r"async functions are not supported yet: .*asyncio\.run"):
        payload.ship(fn)


def test_a_class_whose_objects_are_async_can_itself_be_called():
    payload.ship(Awaits)


@pytest.mark.parametrize("codec", ["msgpack", "pickle"])
def test_a_coroutine_is_no_result(codec):
    with pytest.raises(PayloadError, match=r"async functions are not supported yet: shop\.get returned a coroutine"):
        payload.encode_result(codec, coroutine(), "shop.get")


# ------------------------------------------------------------------------------------------------ hostile exceptions


class Hostile(Exception):
    """Whatever can be overridden raises what nobody expects."""

    def __reduce__(self):
        raise KeyboardInterrupt

    def __str__(self):
        raise SystemExit


class Large(Exception):
    pass


class Stubborn(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


def told_of(error):
    return payload.read_failure(payload.encode_exception(error))


def test_one_that_raises_when_it_is_looked_at_is_told_all_the_same():
    told = told_of(caught(Hostile))
    assert (told.text, told.pickled) == ("<Hostile whose __str__ fails>", b"")
    assert "in fail" in told.traceback


def test_a_message_that_is_no_unicode_or_gigantic_is_sent():
    assert told_of(OSError("a\udcffb")).text == "a\\udcffb"
    told = told_of(Large("start" + "x" * 5_000_000 + "end"))
    assert told.text.startswith("startxx")
    assert told.text.endswith("xxend")
    assert "characters left out" in told.text
    assert len(told.text) < payload.MAX_TEXT + 100
    assert payload.read_failure(payload.failure("WorkerLost", "\udcff" * 100_000)).text.startswith("\\udcff")


def test_one_that_holds_gigantic_data_leaves_it_behind():
    error = Large("short")
    error.data = bytes(payload.MAX_PICKLED)
    told = told_of(error)
    assert (told.text, told.pickled) == ("short", b"")
    assert "(the exception itself has 1" in told.traceback
    error.data = bytes(1000)
    assert len(payload.decode_exception(payload.encode_exception(error)).data) == 1000


def test_one_that_refuses_attributes_gets_its_cause():
    error = payload.decode_exception(payload.encode_exception(caught(lambda: Stubborn(3))))
    assert isinstance(error, Stubborn)
    assert isinstance(error.__cause__, RemoteTraceback)


def test_groups_and_chains_come_whole():
    inner = caught(lambda: KeyError("inner"))
    group = caught(lambda: ExceptionGroup("several", [ValueError("v"), ExceptionGroup("more", [inner])]))
    group.__cause__ = inner
    error = payload.decode_exception(payload.encode_exception(group))
    assert isinstance(error, ExceptionGroup)
    assert error.exceptions[1].exceptions[0].args == ("inner",)
    assert "direct cause" in str(error.__cause__)
    assert str(error.__cause__).count("KeyError: 'inner'") == 2


def test_a_module_that_leaves_when_it_is_imported_does_not_end_the_submitter(tmp_path, monkeypatch):
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    data = payload._msgpack.encode(payload.Failure("x.Y", "t", "", b"cleaves_at_once\nY\n."))
    assert isinstance(payload.decode_exception(data), RemoteError)


def test_what_cannot_be_encoded_is_told_in_a_line_of_bounded_length():
    class Talks:
        def __reduce__(self):
            raise TypeError("x" * 100_000)

    with pytest.raises(PayloadError) as one:
        payload.encode_result("pickle", Talks(), "t")
    assert len(str(one.value)) < 1_500
