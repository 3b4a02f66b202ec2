"""The facts that the journal keeps: one Struct per kind, one record per run of jobs, never per job."""

from msgspec import Struct

from zmqtasks.wire import Function, Spec


class Submitted(Struct, array_like=True, gc=False, tag=1):
    """Jobs were accepted. A payload is its bytes, or the number under which large bytes were stored."""

    prefix: bytes
    first: int
    task: str
    function: bytes
    codec: str
    spec: Spec
    args: list[bytes | int]
    functions: list[Function]
    batch: int


class Assigned(Struct, array_like=True, gc=False, tag=2):
    """Consecutive attempts were given to a worker, in this order."""

    worker: bytes
    number: int
    attempt: int
    jobs: list[tuple[bytes, list[int]]]  # (prefix, counters)


class Requeued(Struct, array_like=True, gc=False, tag=3):
    """An attempt ended without an outcome, or with one that is tried again; not before `due` (Unix time; 0: now)."""

    prefix: bytes
    counter: int
    crashes: int
    retries: int
    due: float
    solo: bool


class Succeeded(Struct, array_like=True, gc=False, tag=4):
    """These jobs ended well."""

    prefix: bytes
    counters: list[int]
    results: list[bytes | int]


class Ended(Struct, array_like=True, gc=False, tag=5):
    """One job ended otherwise: failed, cancelled or aborted."""

    prefix: bytes
    counter: int
    state: int
    payload: bytes | int


Record = Submitted | Assigned | Requeued | Succeeded | Ended
