"""Names of Celery that there are not here, or not yet: whoever asks for one is told what to do instead."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar

from zmqtasks.errors import NotAvailable

C = TypeVar("C")

_CANVAS: Final = (
    "groups, chains and chords come later; until then submit many at once with task.starmap(calls), "
    "and wait for them with zmqtasks.as_completed(jobs)"
)
_SCHEDULES: Final = (
    "periodic tasks come later; until then have cron or a timer of systemd call "
    "`zmqtasks submit TASK --broker URL`, or a script that submits"
)
_SIGNALS: Final = (
    "signals come later; until then a class of tasks (@app.task(base=…)) has before_start, on_success, on_failure, "
    "on_retry and after_return"
)
_EVENTS: Final = "events come later; until then `zmqtasks status --watch` and `zmqtasks story ID` show what happens"
_SLOTS: Final = "workers that grow and shrink come later; -c says how many slots one has, and more workers may join"
_STOP: Final = "stop a worker by Ctrl-C or SIGTERM; it finishes what runs first"
_PARTS: Final = "a worker is not put together of exchangeable parts"
_NO_BROKER: Final = "there are no brokers and result backends, only the scheduler"
CALLBACKS: Final = "callbacks come later; until then have the task submit the next job: other.delay(result)"
NO_OUTCOME: Final = (
    "a job of zmqtasks always ends with an outcome; return a value, raise an exception, or call self.retry(countdown=…)"
)
_GROUPS: Final = "results of groups come later; a list of results does as well: [result.get() for result in results]"

CANVAS: Final = dict.fromkeys(
    ("group", "chain", "chord", "chunks", "signature", "subtask", "maybe_signature", "xmap", "xstarmap", "Signature"),
    _CANVAS,
)
SCHEDULES: Final = dict.fromkeys(("crontab", "schedule", "solar"), _SCHEDULES)
SIGNALS: Final = dict.fromkeys(
    (
        "after_setup_logger", "after_setup_task_logger", "after_task_publish", "beat_embedded_init", "beat_init",
        "before_task_publish", "celeryd_after_setup", "celeryd_init", "eventlet_pool_apply",
        "eventlet_pool_postshutdown", "eventlet_pool_preshutdown", "eventlet_pool_started", "heartbeat_sent",
        "import_modules", "setup_logging",
        "task_failure", "task_internal_error", "task_postrun", "task_prerun", "task_received", "task_rejected",
        "task_retry", "task_revoked", "task_sent", "task_success", "task_unknown", "user_preload_options",
        "worker_before_create_process", "worker_init", "worker_process_init", "worker_process_shutdown",
        "worker_ready", "worker_shutdown", "worker_shutting_down",
    ),
    _SIGNALS,
)  # fmt: skip
RESULTS: Final = dict.fromkeys(("ResultSet", "GroupResult", "result_from_tuple"), _GROUPS)
EXCEPTIONS: Final = {
    **dict.fromkeys(("WorkerShutdown", "WorkerTerminate"), _STOP),
    "Terminated": "a job whose process was ended by somebody is a zmqtasks.JobCancelled or WorkerLost",
    "ChordError": _CANVAS,
}
PACKAGE: Final = {
    **CANVAS,
    "install": "that comes later; until then write `from zmqtasks.celery import …` in place of `from celery import …`",
    "beat": _SCHEDULES,
    "bootsteps": _PARTS,
    "events": _EVENTS,
}
APP: Final = {
    **CANVAS,
    **dict.fromkeys(("add_periodic_task", "on_after_configure", "on_after_finalize", "on_after_fork"), _SCHEDULES),
    **dict.fromkeys(
        (
            "amqp",
            "backend",
            "broker_connection",
            "connection",
            "connection_for_read",
            "connection_for_write",
            "connection_or_acquire",
            "default_connection",
            "default_producer",
            "pool",
            "producer_or_acquire",
            "producer_pool",
        ),
        _NO_BROKER,
    ),
    **dict.fromkeys(("ResultSet", "GroupResult"), _GROUPS),
    **dict.fromkeys(("loader", "steps", "user_options"), _PARTS),
    "Beat": _SCHEDULES,
    "WorkController": "start a worker by app.worker_main() or zmqtasks worker",
    "add_defaults": "write app.conf.update(…), or config_from_object",
    "bugreport": "in a terminal, `zmqtasks version` and `zmqtasks check -A APP` tell it",
    "events": _EVENTS,
    "log": "zmqtasks worker -l LEVEL --logfile FILE sets up logging",
    "select_queues": "zmqtasks worker -Q A,B chooses the queues of a worker",
    "setup_security": "keys come later",
    "register_task": "a class alone is no task here: write @app.task(base=MyTask, bind=True) above a function",
    "on_configure": _SIGNALS,
    "Worker": "start a worker by app.worker_main() or zmqtasks worker",
}
RESULT: Final = {
    "then": "use result.job.add_done_callback(fn)",
    "backend": _NO_BROKER,
    **dict.fromkeys(
        ("args", "date_done", "kwargs", "name", "queue", "retries", "worker"),
        "a result is the value alone; return with it what you need, `zmqtasks story ID` shows what has happened",
    ),
    **dict.fromkeys(
        ("children", "collect", "iterdeps", "get_leaf", "graph", "build_graph", "as_tuple", "as_list"), _CANVAS
    ),
}
TASK: Final = {
    **dict.fromkeys(("s", "si", "signature", "subtask", "subtask_from_request", "chunks"), _CANVAS),
    **dict.fromkeys(("replace", "add_to_chord", "add_trail"), _CANVAS),
    "send_event": _EVENTS,
    "backend": "there is no result backend: the scheduler keeps the results",
}
CONTROL: Final = {
    "broadcast": "workers take no commands of one's own; a queue Broadcast(name) has each of them run a task",
    "shutdown": _STOP,
    "time_limit": "time limits come later",
    "revoke_by_stamped_headers": "a job carries no headers; app.control.revoke([id, …]) takes ids",
    "election": "the scheduler decides",
    **dict.fromkeys(("enable_events", "disable_events", "heartbeat"), _EVENTS),
    **dict.fromkeys(("pool_grow", "pool_shrink", "autoscale"), _SLOTS),
    "pool_restart": "stop the worker by SIGTERM and start it again: its jobs wait, or run elsewhere",
}
INSPECT: Final = {
    "conf": "in a terminal, `zmqtasks check -A APP` shows the settings",
    "report": "in a terminal, `zmqtasks status` and `zmqtasks check -A APP` tell it",
    **dict.fromkeys(("memsample", "memdump", "objgraph"), "a job may measure its process: psutil.Process()"),
    **dict.fromkeys(("clock", "hello"), "workers do not speak with one another"),
}


class NotImportable(NotAvailable, ImportError):
    """Something of Celery's that there is not, or not yet; the message says what to do instead."""


class Absent(NotAvailable, AttributeError):
    """An attribute of Celery's that there is not, or not yet; the message says what to do instead."""


class _Absence:
    """In place of the attribute. `told`: the message."""

    def __init__(self, told: str) -> None:
        self._told = told

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise Absent(self._told)


def without(owner: str, later: Mapping[str, str]) -> Callable[[type[C]], type[C]]:
    """For a class: have these attributes say that they are not there. A `__getattr__` would hide errors of properties.

    Args:
        owner: what people call its objects.
        later: of the names that Celery has, what to do instead.
    """

    def add(kind: type[C]) -> type[C]:
        for name, why in later.items():
            setattr(kind, name, _Absence(f"{owner}.{name} is not available: {why}"))
        return kind

    return add


def getter(module: str, later: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module.

    Args:
        module: its name.
        later: of the names that Celery's module has, what to do instead.

    Raises:
        NotImportable: by the returned function, for one of these names: a `from … import` shows it as it is.
        AttributeError: by the returned function, for any other.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807  (it becomes that of the module)
        why = later.get(name)
        if why is None:
            message = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(message)
        raise NotImportable(f"{module}.{name} is not available: {why}")

    return __getattr__
