"""Celery's options become ours; nothing that would be missed is dropped in silence."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from zmqtasks.celery import Celery, Task
from zmqtasks.celery._options import TASK_NOT_NEEDED, of_job, of_task
from zmqtasks.errors import BadOption, NotAvailable

ZONE = timezone(timedelta(hours=2))
NOON = datetime(2026, 7, 4, 12)  # noqa: DTZ001  (naive on purpose)


def zone():
    return ZONE


class Retrying(Task):
    retry_kwargs = {"max_retries": 7, "countdown": 3}  # noqa: RUF012  (as users of Celery write it)
    reject_on_worker_lost = False


@pytest.mark.parametrize(
    ("given", "base", "found"),
    [
        ({"bind": True, "name": "a", "rate_limit": "10/m"}, Task, {"bind": True, "name": "a", "rate_limit": "10/m"}),
        ({"retry_kwargs": {"max_retries": 5, "countdown": 2}}, Task, {"max_retries": 5, "default_retry_delay": 2}),
        ({"retry_kwargs": {"max_retries": 5}, "max_retries": 1}, Task, {"max_retries": 1}),
        ({"reject_on_worker_lost": True}, Task, {}),
        ({"reject_on_worker_lost": False}, Task, {"crash_budget": 0}),
        ({}, Retrying, {"max_retries": 7, "default_retry_delay": 3, "crash_budget": 0}),
        ({"reject_on_worker_lost": True, "retry_kwargs": {}}, Retrying, {}),
        ({"max_retries": None, "priority": None}, Task, {"max_retries": None}),
        ({"shared": True, "lazy": False, "trail": True, "track_started": True}, Task, {}),
    ],
)
def test_options_of_tasks(given, base, found):
    assert of_task(given, base) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"countdown": 3, "eta": None, "priority": 9}, {"countdown": 3, "priority": 9}),
        ({"ignore_result": True}, {"result_ttl": 0.0}),
        ({"ignore_result": False}, {}),
        ({"retry": True, "retry_policy": {"max_retries": 3}, "producer": object(), "delivery_mode": 1}, {}),
        ({"eta": NOON}, {"eta": NOON.replace(tzinfo=ZONE)}),
        ({"eta": NOON.replace(tzinfo=UTC)}, {"eta": NOON.replace(tzinfo=UTC)}),
        ({"expires": NOON, "eta": 5.0}, {"expires": NOON.replace(tzinfo=ZONE), "eta": 5.0}),
        ({"expires": 60}, {"expires": 60}),
    ],
)
def test_options_of_jobs(given, found):
    assert of_job(given, zone) == found


def test_what_has_no_meaning_is_said_once(caplog):
    for _ in range(2):
        of_task({"trail": True, "lazy": True}, Task)
        of_job({"retry": False}, zone)
    assert [record.getMessage() for record in caplog.records] == [
        f"not needed: task option trail= ({TASK_NOT_NEEDED['trail']})",
        "not needed: option retry= (a client sends a job again until the scheduler has accepted it)",
    ]


@pytest.mark.parametrize("given", [{"headers": {"a": 1}}, {"stamped_headers": ["a"]}])
def test_what_would_be_missed_is_refused(given):
    with pytest.raises(NotAvailable, match=r"headers= of Celery is not available: a job carries its arguments"):
        of_job(given, zone)


def test_retry_kwargs_with_something_else():
    with pytest.raises(BadOption, match=r"retry_kwargs= is a dict with max_retries and countdown, not"):
        of_task({"retry_kwargs": {"queue": "x"}}, Task)


def test_a_task_waits_as_long_as_in_celery_before_it_is_tried_again():
    app = Celery("a")

    @app.task(autoretry_for=(OSError,))
    def plain(): ...

    @app.task(autoretry_for=(OSError,), retry_backoff=2)
    def doubling(): ...

    @app.task(autoretry_for=(OSError,), retry_kwargs={"countdown": 5})
    def other(): ...

    assert [(task.defaults["backoff"], task.defaults.get("jitter")) for task in (plain, doubling, other)] == [
        (180.0, None),
        (2, True),
        (5.0, None),
    ]


def test_the_time_zone_of_an_app():
    app = Celery("a")
    assert app.timezone is UTC
    app.conf.timezone = "Europe/Berlin"
    assert str(app.timezone) == "Europe/Berlin"
    app.conf.timezone = ZONE
    assert app.now().utcoffset() == timedelta(hours=2)
    app.conf.update(timezone=None, enable_utc=False)
    assert app.now().utcoffset() == datetime.now().astimezone().utcoffset()
