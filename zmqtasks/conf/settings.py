"""Conf: every setting of an app, with what it may be, its default and its meaning. The documents are drawn from it.

A setting with `later` is kept and checked, and has no effect. Whoever builds the feature takes the word out, here and
nowhere else. Where Celery has a name for a setting, that is the canonical one; short names of our own are aliases.
"""

from zmqtasks import payload
from zmqtasks.conf.kinds import (
    ANNOTATIONS,
    ANYTHING,
    CODEC,
    CODECS,
    COMPRESSION,
    CONCURRENCY,
    EXCHANGE_TYPE,
    EXPIRY,
    FLAG,
    MODULES,
    POOL,
    QUEUE,
    QUEUES,
    RATE,
    ROUTES,
    SCHEDULE,
    SECONDS,
    TEXT,
    URL,
    ZONE,
    optional,
    or_default,
    whole,
)
from zmqtasks.conf.origin import Layer
from zmqtasks.conf.setting import Setting
from zmqtasks.conf.store import Store
from zmqtasks.config import BROKER_VARIABLE, DEFAULT_QUEUE, MAX_PRIORITY

_LIMITS = "time limits"
_EAGER = "keeping the results of tasks that run where they are called"
_SCHEDULES = "periodic tasks"
_KEYS = "keys and encryption; until then connections are not encrypted"
_EVENTS = "events"


def _serializer(conf: "Conf") -> str:
    """The default codec, or the first of the others that is accepted: Celery's users list only "json"."""
    accepted = conf.accept_content
    return next(codec for codec in ("msgpack", "json", "pickle", "cloudpickle") if codec in accepted)


class Conf(Store):
    """The settings of an app, as attributes: ``app.conf.task_serializer``, ``app.conf.task_serializer = "json"``.

    What was set later counts more, within each of these: keywords, attributes and `update`; `from_envvar`;
    `from_object`; ``zmqtasks.toml`` of the current folder; the defaults. For the broker, ZMQTASKS_BROKER of the
    environment stands before the file. See `zmqtasks.conf.store.Store` for the methods.

    Raises:
        BadOption: there is no such setting, or it cannot have that value; says which, where it was written, and what
            it can be. Reading raises it if ``zmqtasks.toml`` is wrong.
    """

    # -------------------------------------------------------------------------------------------- the scheduler

    broker_url = Setting(
        optional(URL),
        None,
        "the scheduler: tcp://HOST:PORT, ipc://PATH, or local:// for one of the script's own",
        said="local:// (in `zmqtasks worker`: tcp://127.0.0.1:5555)",
        variable=BROKER_VARIABLE,
    )
    broker = broker_url
    broker_connection_timeout = Setting(SECONDS, 5.0, "seconds until the scheduler must have answered")
    connect_timeout = broker_connection_timeout
    submit_timeout = Setting(SECONDS, 30.0, "seconds that submitting waits for room")

    # -------------------------------------------------------------------------------------------- tasks and jobs

    task_serializer = Setting(
        CODEC,
        "msgpack",
        "codec of the arguments and results of tasks that name none",
        derive=_serializer,
        said="msgpack, or what `accept_content` allows",
    )
    serializer = task_serializer
    accept_content = Setting(
        CODECS, payload.ALL_CODECS, "codecs that workers decode arguments from, and scripts results", said="all"
    )
    accept = accept_content
    result_accept_content = Setting(
        or_default(CODECS, "the same as accept_content"),
        payload.ALL_CODECS,
        "the same for results, and goes before it",
        derive=lambda conf: conf.accept_content,
        said="`accept_content`",
    )
    task_compression = Setting(
        optional(COMPRESSION), None, "compression of arguments, of tasks that name none", said="none"
    )
    result_compression = Setting(
        optional(COMPRESSION), None, "compression of results, of tasks that name none", said="none"
    )
    task_default_queue = Setting(QUEUE, DEFAULT_QUEUE, "queue of tasks that name none")
    default_queue = task_default_queue
    task_queues = Setting(
        optional(QUEUES), None, "the queues that workers take from, unless `-Q` says otherwise", said="not declared"
    )
    task_create_missing_queues = Setting(FLAG, True, "queues that are not in `task_queues` may be used, too")
    task_routes = Setting(optional(ROUTES), None, "which task goes to which queue", said="none")
    task_annotations = Setting(
        optional(ANNOTATIONS),
        None,
        "options of tasks by their names, before what the tasks say themselves",
        said="none",
    )
    task_default_exchange = Setting(
        optional(TEXT), None, "exchange of queues that name none", said="`task_default_queue`"
    )
    task_default_exchange_type = Setting(EXCHANGE_TYPE, "direct", "its type")
    task_default_routing_key = Setting(
        optional(TEXT), None, "routing key of the default queue", said="`task_default_queue`"
    )
    task_acks_late = Setting(
        FLAG, True, "True: jobs run at least once; False: at most once (`acks_late` of tasks that do not say)"
    )
    task_reject_on_worker_lost = Setting(
        or_default(FLAG, "True"),
        True,
        "True: jobs run again when their process dies; False: not once (`crash_budget=0` of such tasks)",
    )
    task_ignore_result = Setting(FLAG, False, "results are dropped once they are delivered (`ignore_result` of tasks)")
    result_expires = Setting(
        optional(EXPIRY, "the scheduler's choice"),
        None,
        "seconds, or a timedelta, that outcomes are kept (`result_ttl` of tasks that name none)",
        said="the scheduler's: an hour",
    )

    timezone = Setting(
        optional(ZONE),
        None,
        "time zone of an `eta` or `expires` that names none, in `zmqtasks.celery`",
        said="see `enable_utc`",
    )
    enable_utc = Setting(FLAG, True, "where there is no `timezone`, it is UTC; False: that of this machine")

    # -------------------------------------------------------------------------------------------- workers

    imports = Setting(MODULES, (), "modules with tasks, which workers import")
    include = Setting(MODULES, (), "more of them, beside those given to the app itself")
    worker_concurrency = Setting(
        optional(CONCURRENCY, "one per core"), None, "jobs that a worker runs at a time (`-c`)", said="one per core"
    )
    worker_pool = Setting(POOL, "processes", "what a slot of a worker is: processes, threads or solo (`-P`)")

    # -------------------------------------------------------------------------------------------- still to come

    task_default_priority = Setting(
        optional(whole("a number", 0, MAX_PRIORITY)), None, "priority of tasks that name none"
    )
    task_inherit_parent_priority = Setting(
        FLAG, False, "jobs for which nothing names a priority have that of the job that submits them"
    )
    task_default_rate_limit = Setting(optional(RATE), None, "rate limit of tasks that name none")
    worker_disable_rate_limits = Setting(FLAG, False, "no rate limit of a task of this app holds")
    task_time_limit = Setting(optional(SECONDS), None, "seconds after which a job is killed", later=_LIMITS)
    task_soft_time_limit = Setting(
        optional(SECONDS), None, "seconds after which an exception is raised in a job", later=_LIMITS
    )
    task_always_eager = Setting(FLAG, False, "`delay` and `apply_async` run the task at once, here")
    task_eager_propagates = Setting(FLAG, False, "and raise what it raises")
    task_store_eager_result = Setting(FLAG, False, "and its result is kept, as that of a job", later=_EAGER)
    task_allow_error_cb_on_chord_header = Setting(
        FLAG, False, "error callbacks of a chord hold for its header, too", later="chords"
    )
    beat_schedule = Setting(SCHEDULE, {}, "periodic tasks, by name", later=_SCHEDULES, said="none")
    beat_cron_starting_deadline = Setting(
        optional(SECONDS), None, "seconds by which a periodic task may be late", later=_SCHEDULES
    )
    worker_max_tasks_per_child = Setting(
        optional(whole("a number of jobs", 1)), None, "jobs after which a child is replaced", later="recycled children"
    )
    worker_max_memory_per_child = Setting(
        optional(whole("a number of KiB", 1)),
        None,
        "KiB of memory above which a child is replaced",
        later="recycled children",
    )
    worker_direct = Setting(FLAG, False, "each worker takes from a queue of its own, too, called NAME.dq2")
    worker_enable_remote_control = Setting(FLAG, True, "workers can be steered", later="remote control")
    worker_send_task_events = Setting(FLAG, False, "workers tell what they do", later=_EVENTS)
    task_send_sent_event = Setting(FLAG, False, "submitting is told, too", later=_EVENTS)
    broker_use_ssl = Setting(ANYTHING, False, "connections are encrypted", later=_KEYS)
    security_key = Setting(optional(TEXT), None, "file of the private key", later=_KEYS)
    security_key_password = Setting(ANYTHING, None, "its password", later=_KEYS, secret=True)
    security_certificate = Setting(optional(TEXT), None, "file of the certificate", later=_KEYS)
    security_cert_store = Setting(optional(TEXT), None, "files of the certificates that are trusted", later=_KEYS)
    security_digest = Setting(TEXT, "sha256", "digest of signatures", later=_KEYS)


def broker_in_file() -> str | None:
    """The scheduler that ``zmqtasks.toml`` names, whatever else stands there.

    Raises:
        BadOption: the file cannot be read, or it names none that there could be.
    """
    conf = Conf()
    conf.read_file(only="broker_url")
    url: str | None = conf.given_in(Layer.FILE, "broker_url")
    return url
