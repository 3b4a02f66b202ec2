import re
from datetime import UTC, datetime

import pytest

from zmqtasks.errors import BadOption, NotAvailable
from zmqtasks.submitter import options
from zmqtasks.submitter.submitting import Submitting
from zmqtasks.wire import Spec


def spec(**given: object) -> Spec:
    return options.spec(options.check(given), python="3.11", wall=1000.0)


def test_defaults_are_those_of_the_wire() -> None:
    assert spec() == Spec(python="3.11")


def test_every_option_reaches_the_spec() -> None:
    made = spec(
        queue="high", retries=2, backoff=1, backoff_max=9, jitter=True, crash_budget=0, result_ttl=60, countdown=5,
        on_unknown="fail",
    )  # fmt: skip
    assert made == Spec("high", "3.11", 2, 1.0, 9.0, 0, 60.0, 1005.0, True, True)
    assert spec(resources={"mem": "1KiB", "gpu": 0.5}).resources == (("gpu", 5_000), ("mem", 10_240_000))
    assert spec(eta=1234).not_before == 1234.0
    assert spec(eta=datetime(2030, 1, 1, tzinfo=UTC)).not_before == 1893456000.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"quue": "x"}, "quue.*did you mean queue"),
        ({"zzz": 1}, "there are: acks_late, backoff"),
        ({"acks_late": "no"}, "acks_late= is True or False"),
        ({"durability": "tape"}, "durability= is .disk., .os. or .memory."),
        ({"retries": "2"}, "retries= is a number of attempts.*'2'"),
        ({"retries": True}, "retries="),
        ({"retries": -1}, "retries="),
        ({"jitter": 0.5}, "jitter= is True or False, not 0.5"),
        ({"queue": 1}, "queue= is the name"),
        ({"queue": ""}, "option queue=: queue '' has an empty name"),
        (
            {"queue": "high,low"},
            "option queue=: queue 'high,low' has ',' in its name, where no comma, space or",
        ),
        ({"queue": "high low"}, "queue 'high low' has ' ' in its name"),
        ({"queue": "high\x1b"}, r"queue 'high\\x1b' has '\\x1b' in its name"),
        ({"queue": "x" * 1_001}, "has a name of 1,001 characters, and 1,000 are the most"),
        ({"job_id": ""}, "option job_id= is a text of 1 to 1,000 characters, not of 0"),
        ({"job_id": "x" * 5_000}, "option job_id= is a text of 1 to 1,000 characters, not of 5,000"),
        ({"rate_limit": "1/s", "burst": 0}, "option burst= is a number of starts at once, 1 or more, not 0"),
        ({"expires": 0}, "option expires=0 is over before the job may start"),
        ({"expires": -1.5}, "option expires=-1.5 is over before the job may start"),
        ({"backoff": 3, "backoff_max": 2.5}, "option backoff=3 is more than backoff_max=2.5$"),
        ({"backoff": 601}, "option backoff=601 is more than backoff_max=600.0, which is the default"),
        ({"eta": "tomorrow"}, "eta= is a datetime"),
        (
            {"concurrency_limit": 2**70},
            "option concurrency_limit= is .* 2,147,483,647 at most, not 1180591620717411303424",
        ),
        ({"countdown": float("nan")}, "option countdown= is a number of seconds, 1,000,000,000,000 at most, not nan"),
        ({"result_ttl": float("inf")}, "option result_ttl= is .* at most, not inf"),
        ({"expires": 10**400}, "option expires= is .* at most"),
        ({"eta": 1, "countdown": 1}, "not both"),
        ({"eta": datetime(2030, 1, 1)}, "time zone, and .*2030.* has none.*when.astimezone"),  # noqa: DTZ001
        ({"expires": datetime(2030, 1, 1)}, "option expires= is a datetime with its time zone"),  # noqa: DTZ001
        ({"resources": {"gpu": -1}}, "resources=: resource gpu is a number.*0 or more, not -1"),
        ({"on_unknown": "explode"}, 'on_unknown= is "wait" or "fail"'),
    ],
)
def test_wrong_options_are_named(given: dict[str, object], told: str) -> None:
    with pytest.raises(BadOption, match=told):
        options.check(given)
    with pytest.raises(TypeError):
        options.check(given)


def test_options_that_come_later_are_refused_rather_than_ignored() -> None:
    with pytest.raises(NotAvailable, match="time_limit= is not available yet"):
        options.check({"time_limit": 3})
    assert options.check({"time_limit": None, "queue": None}) == {}


@pytest.mark.parametrize("name", sorted(options.KNOWN))
def test_every_option_is_explained(name: str) -> None:
    assert re.search(rf"\b{name}\b", Submitting.options.__doc__ or "")


def test_a_job_that_is_too_late_before_it_may_start():
    for given in (
        {"countdown": 60, "expires": 60},
        {"eta": datetime(2026, 7, 4, tzinfo=UTC), "expires": datetime(2026, 7, 3, tzinfo=UTC)},
    ):
        with pytest.raises(BadOption, match="is over before the job may start: it would never run"):
            options.check(given)
    options.check({"countdown": 60, "expires": 61})
    options.check({"countdown": 60, "expires": datetime(2026, 7, 3, tzinfo=UTC)})
