"""Arguments, results and exceptions as bytes and back. The scheduler never calls any of this.

Codecs: ``msgpack`` (registered tasks' default) and ``json`` hold plain data (tuples come back as lists); ``pickle``
and ``cloudpickle`` hold any object and are the codec of shipped functions. Only what an accept list names is decoded.
With compression a codec is called ``json+gzip+none``: what arguments, and what results, are compressed by.
"""

import inspect
import pickle
import sys
import traceback as tracebacks
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from zmqtasks import compression, errors
from zmqtasks.errors import NotAvailable, PayloadError, RemoteError, RemoteTraceback

ALL_CODECS: Final = frozenset({"msgpack", "json", "pickle", "cloudpickle"})
_UNPICKLED: Final = frozenset({"pickle", "cloudpickle"})  # who decodes one of them can be sent what he likes anyway
MIME_TYPES: Final = {  # as Celery's kombu has them
    "application/json": "json",
    "application/x-python-serialize": "pickle",
    "application/x-msgpack": "msgpack",
}
MAX_TEXT: Final = 64 * 1024  # characters of a failure's message or traceback; of a longer one the middle is left out
MAX_PICKLED: Final = 1024 * 1024  # bytes of a pickled exception; a larger one is told, not sent
_MAX_LINE: Final = 1_000  # characters of a cause inside our own messages

_NO_ASYNC: Final = "async functions are not supported yet"
_RUN_ASYNC: Final = "call it in a plain function: asyncio.run(…)"

_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_json_decoder = msgspec.json.Decoder()
_msgpack_decoder = msgspec.msgpack.Decoder()


def _cloudpickle(value: object) -> bytes:
    from zmqtasks import byvalue  # 40 ms of start-up that most processes never need

    return byvalue.dumps(value)


_by_value: set[bytes] = set()  # names of modules that `Client(ship=[...])` sends with whatever refers to them


def set_by_value(modules: Collection[str]) -> None:
    """From now on what these modules (and their submodules) define is pickled by value; cloudpickle knows them, too."""
    global _by_value  # noqa: PLW0603  (replaced whole, so that threads which pickle see the old ones or the new ones)
    _by_value = {name.encode() for name in modules}


def goes_by_value(module: str) -> bool:
    """Whether what a module defines is pickled by value."""
    names = [name.decode() for name in _by_value]
    return module == "__main__" or any(module == name or module.startswith(f"{name}.") for name in names)


def _pickle(value: object) -> bytes:
    """Plain pickle where it does; cloudpickle for what lives in __main__ or cannot be named, which goes by value."""
    try:
        data = pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        return _cloudpickle(value)
    if b"__main__" in data or (_by_value and any(name in data for name in _by_value)):  # too often is only slower
        return _cloudpickle(value)
    return data


def _msgpack_encode(value: object) -> bytes:
    return _msgpack.encode(value)


_ENCODERS: Final[dict[str, Callable[[object], bytes]]] = {
    "msgpack": _msgpack_encode,
    "json": _json.encode,
    "pickle": _pickle,
    "cloudpickle": _pickle,
}
_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "msgpack": _msgpack_decoder.decode,
    "json": _json_decoder.decode,
    "pickle": pickle.loads,
    "cloudpickle": pickle.loads,
}


def named(codec: Any) -> str:
    """A codec by its name or MIME type. Raises PayloadError if there is none of that name."""
    name = MIME_TYPES.get(codec, codec) if isinstance(codec, str) else codec
    if name not in _ENCODERS:
        raise PayloadError(_unknown(codec))
    return str(name)


def joined(codec: str, arguments: str | None = None, results: str | None = None) -> str:
    """The name of a codec with the methods by which arguments and results are compressed; None: they are not."""
    methods = arguments or compression.NONE, results or compression.NONE
    return codec if set(methods) == {compression.NONE} else "+".join((codec, *methods))


@lru_cache
def _split(codec: str) -> tuple[str, str, str]:
    """Serializer, and compression of arguments and of results."""
    parts = codec.split("+")
    if len(parts) not in {1, 3} or parts[0] not in _ENCODERS:
        raise PayloadError(_unknown(codec))
    try:
        methods = [compression.named(part) for part in parts[1:]]
    except errors.BadOption as error:
        raise PayloadError(f"codec {codec!r}: {error}") from None
    return (parts[0], *(methods or (compression.NONE,) * 2))


def accepts(codec: str, accept: Collection[str]) -> bool:
    """Whether an accept list lets a codec pass; with pickle it lets cloudpickle pass, and the other way round."""
    return codec in accept or (codec in _UNPICKLED and not _UNPICKLED.isdisjoint(accept))


def encoder(codec: str, *, result: bool = False) -> Callable[[object], bytes]:
    """The function that encodes arguments, or a result, with this codec; for hot loops, which look it up once."""
    found = _ENCODERS.get(codec)
    if found is not None:
        return found
    serializer, *methods = _split(codec)
    encode, method = _ENCODERS[serializer], methods[result]
    if method == compression.NONE:
        return encode
    pack = compression.packer(method)
    return lambda value: pack(encode(value))


def decoder(codec: str, accept: Collection[str] = ALL_CODECS, *, result: bool = False) -> Callable[[bytes], Any]:
    """The function that decodes arguments, or results, of this codec.

    Raises:
        PayloadError: the codec is unknown, or not on the accept list.
    """
    found = _DECODERS.get(codec)
    if found is not None and codec in accept:
        return found
    serializer, *methods = _split(codec)
    if not accepts(serializer, accept):
        message = f"codec {codec!r} is not accepted here (accepted: {', '.join(sorted(accept))})"
        raise PayloadError(message)
    decode, method = _DECODERS[serializer], methods[result]
    if method == compression.NONE:
        return decode
    unpack = compression.unpacker(method)
    return lambda data: decode(unpack(data))


def _unknown(codec: object) -> str:
    return f"no codec is called {codec!r} (there are: {', '.join(sorted(_ENCODERS))})"


def encode_call(codec: str, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> bytes:
    """The arguments of one job.

    Args:
        codec: one of ALL_CODECS.
        args: positional arguments.
        kwargs: keyword arguments.
        what: the task's name, for the message.

    Raises:
        PayloadError: names the first argument that the codec refuses.
    """
    encode = encoder(codec)
    try:
        return encode((args, kwargs))
    except errors.PayloadTooLarge as error:
        raise errors.PayloadTooLarge(f"{what}: {error}; pass large data by a file or an address") from None
    except Exception as error:
        for place, value in [*((f"argument {i + 1}", a) for i, a in enumerate(args)), *kwargs.items()]:
            try:
                encode(value)
            except Exception as culprit:
                message = (
                    f"{what}: {place} ({type(value).__name__}) cannot be encoded as {codec}: {_one_line(culprit)}"
                    + _suggestion(codec)
                )
                raise PayloadError(message) from culprit
        message = f"{what}: the arguments cannot be encoded as {codec}: {_one_line(error)}"
        raise PayloadError(message) from error


def _suggestion(codec: str) -> str:
    return "" if "pickle" in codec else '; declare the task with serializer="pickle" for arbitrary Python objects'


def encode_result(codec: str, value: object, what: str) -> bytes:
    """The value that a task returned. Raises PayloadError, naming the task."""
    try:
        return encoder(codec, result=True)(value)
    except errors.PayloadTooLarge as error:
        raise errors.PayloadTooLarge(f"the result of {what}: {error}") from None
    except Exception as error:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns that nobody awaited it
            raise PayloadError(f"{_NO_ASYNC}: {what} returned a coroutine; {_RUN_ASYNC}") from None
        message = (
            f"{what}: the result ({type(value).__name__}) cannot be encoded as {codec}: {_one_line(error)}"
            + _suggestion(codec)
        )
        raise PayloadError(message) from error


def encode_progress(value: object, what: str) -> bytes:
    """What a running job tells of itself, as MessagePack. Raises PayloadError, naming the task."""
    try:
        return _msgpack.encode(value)
    except Exception as error:
        raise PayloadError(f"{what}: this progress is no plain data: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return cut(" ".join(message_of(error).split()), _MAX_LINE) or type(error).__name__


def message_of(error: BaseException) -> str:
    """What an exception says, whatever its __str__ does; so long as a failure's message may be."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  (user code; a broken __str__ must not hide the failure)
        return f"<{type(error).__name__} whose __str__ fails>"
    return cut(text, MAX_TEXT)


def cut(text: str, limit: int) -> str:
    """A text that can be encoded, with at most so many characters and a remark in place of its middle."""
    text = str.encode(text, "utf-8", "backslashreplace").decode()  # lone surrogates are in names of files
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"


# ------------------------------------------------------------------------------------------------ shipped functions


def function_name(fn: Callable[..., Any]) -> str:
    """What people call this function: module.qualname, or its type's name."""
    named = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    module = getattr(fn, "__module__", None)
    return f"{module}.{named}" if module else named


def refuse_async(fn: Callable[..., Any]) -> None:
    """Raise NotAvailable for an `async def`, or an object whose `__call__` is one."""
    for one in (fn, getattr(type(fn), "__call__", None)):  # noqa: B004  (whether it can be called is not the question)
        if inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one):
            raise NotAvailable(f"{_NO_ASYNC}: {function_name(fn)} is one; {_RUN_ASYNC}")


def function_digest(blob: bytes) -> bytes:
    """What names a shipped function everywhere: BLAKE2b-128 of its bytes."""
    return blake2b(blob, digest_size=16).digest()


class Shipped(NamedTuple):
    """A function as it travels: the fields of `zmqtasks.wire.Function`."""

    digest: bytes
    name: str  # for people: module.qualname
    blob: bytes


def ship(fn: Callable[..., Any]) -> Shipped:
    """A function as bytes that a worker of the same Python version can run.

    Raises:
        PayloadError: it cannot be pickled; the message names it and what stands in the way.
        NotAvailable: it is an async function.
    """
    if not callable(fn):
        message = f"{fn!r} cannot be called, so it cannot be a job"  # type: ignore[unreachable]  # not all callers are typed
        raise PayloadError(message)
    refuse_async(fn)
    name = function_name(fn)
    try:
        blob = _pickle(fn)
    except Exception as error:
        message = f"function {name} cannot be pickled: {_one_line(error)}"
        raise PayloadError(message) from error
    return Shipped(function_digest(blob), name, blob)


def unship(blob: bytes, accept: Collection[str] = ALL_CODECS) -> Callable[..., Any]:
    """The function in a shipped blob. Raises PayloadError if it is not accepted, or whatever its import raises."""
    return decoder("cloudpickle", accept)(blob)  # type: ignore[no-any-return]  # ship() put a callable in


# ------------------------------------------------------------------------------------------------ failures


class Failure(Struct, array_like=True, gc=False):
    """An exception on its way to the submitter."""

    type_name: str  # dotted; or the name of a class in zmqtasks.errors
    text: str
    traceback: str = ""
    pickled: bytes = b""  # empty: it cannot be pickled


_failure_decoder = msgspec.msgpack.Decoder(Failure)


def failure(type_name: str, text: str, traceback: str = "") -> bytes:
    """A failure that is no exception of the task: a crash, a refusal. `type_name`: a class of zmqtasks.errors."""
    return _msgpack.encode(Failure(type_name, cut(text, MAX_TEXT), cut(traceback, MAX_TEXT)))


def encode_exception(error: BaseException, trace: TracebackType | None = None) -> bytes:
    """An exception with its traceback; whatever of it cannot be encoded is left out. Never raises."""
    kind = type(error)
    text = _format(error, trace)
    pickled = _pickle_exception(error)
    if len(pickled) > MAX_PICKLED:
        text += f"(the exception itself has {len(pickled)} bytes and was left behind)\n"
        pickled = b""
    name = cut(f"{kind.__module__}.{kind.__qualname__}", _MAX_LINE)
    return _msgpack.encode(Failure(name, message_of(error), text, pickled))


def _format(error: BaseException, trace: TracebackType | None) -> str:
    """The traceback as Python prints it, with causes and groups."""
    try:
        lines = tracebacks.format_exception(type(error), error, trace or error.__traceback__)
    except BaseException as broken:  # noqa: BLE001  (it looks into attributes of user objects)
        return f"{type(error).__name__}, of which no traceback can be made ({type(broken).__name__})\n"
    return cut("".join(lines), MAX_TEXT)


def _pickle_exception(error: BaseException) -> bytes:
    """Empty if it cannot be pickled, or not be unpickled even here, as many that want more than one argument."""
    try:
        pickled = _pickle(error)
        pickle.loads(pickled)  # our own bytes
    except BaseException:  # noqa: BLE001  (user objects raise anything when they are pickled)
        return b""
    return pickled


def read_failure(data: bytes) -> Failure:
    """The Failure in these bytes; a broken one is told as such, never raised."""
    try:
        return _failure_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Failure("RemoteError", f"the failure itself cannot be decoded: {error}")


def told(data: bytes) -> str:
    """A failure in one line, for a log."""
    failed = read_failure(data)
    return " ".join(f"{failed.type_name.removeprefix('builtins.')}: {failed.text}".split())[:500]


def decode_exception(data: bytes, accept: Collection[str] = ALL_CODECS) -> Exception:
    """The exception to raise in the submitter.

    It is the task's own with the remote traceback as its cause, one of zmqtasks.errors, or a RemoteError where it
    cannot be decoded here, or is no Exception: a SystemExit of a task must not end the script that asks for its result.
    """
    told = read_failure(data)
    ours = getattr(errors, told.type_name, None)
    if isinstance(ours, type) and issubclass(ours, errors.ZmqTasksError) and ours is not RemoteError:
        return ours(told.text)
    result: object = None
    if told.pickled and accepts("pickle", accept):
        try:
            result = pickle.loads(told.pickled)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  (its class may not exist here, and its module raise anything)
            result = None
    if not isinstance(result, Exception):
        result = RemoteError(told.type_name, told.text, told.traceback)
    if told.traceback:  # past the class's own __setattr__: that of a frozen dataclass refuses
        BaseException.__setattr__(result, "__cause__", RemoteTraceback(told.traceback))
    return result


def python_version() -> str:
    """major.minor of this interpreter: shipped functions run only where it is the same."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
