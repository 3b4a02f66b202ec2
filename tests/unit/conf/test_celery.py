"""Celery's settings: every name, in each of its three spellings."""

from pathlib import Path

import pytest

from zmqtasks.conf.celery import NOT_NEEDED, OLD_NAMES, REASONS
from zmqtasks.conf.settings import Conf

LINES = (Path(__file__).parent / "celery_settings.txt").read_text(encoding="utf-8").splitlines()[1:]
PAIRS = [tuple(line.split()) for line in LINES]  # (old, new), independent of the table
SPELLINGS = [(spelled, new) for old, new in PAIRS for spelled in (new, old, f"CELERY_{new.upper()}")]

SAMPLES = {
    "beat_cron_starting_deadline": 60,
    "broker_url": "tcp://head:5555",
    "imports": ("a", "b"),
    "include": ["a"],
    "result_compression": "gzip",
    "result_expires": 60,
    "security_cert_store": "/etc/certs/*.pem",
    "security_certificate": "/etc/cert.pem",
    "security_key": "/etc/key.pem",
    "security_key_password": b"secret",
    "task_annotations": {"*": {"rate_limit": "10/s"}},
    "task_compression": "gzip",
    "task_default_priority": 3,
    "task_default_rate_limit": "100/m",
    "task_queues": ["a", "b"],
    "task_routes": {"a.*": "b"},
    "task_soft_time_limit": 30,
    "task_time_limit": 60,
    "timezone": "Europe/Berlin",
    "worker_concurrency": 3,
    "worker_max_memory_per_child": 12000,
    "worker_max_tasks_per_child": 100,
}
SETTINGS = {setting.name: setting for setting in Conf().settings()}


def sample(name):
    if name in SAMPLES:
        return SAMPLES[name]
    return SETTINGS[name].default if name in SETTINGS else "anything"


def test_the_table_is_celerys():
    assert len(PAIRS) == 207
    assert {new: old for old, new in PAIRS} == OLD_NAMES


def test_a_name_is_a_setting_here_or_has_one_reason_why_not():
    assert sum(map(len, NOT_NEEDED.values())) == len(REASONS)
    assert REASONS.keys() <= OLD_NAMES.keys()
    assert REASONS.keys().isdisjoint(SETTINGS)
    assert OLD_NAMES.keys() - REASONS.keys() <= SETTINGS.keys()


@pytest.mark.parametrize(("spelled", "name"), SPELLINGS)
def test_every_spelling_is_taken(conf, spelled, name):
    value = sample(name)
    conf.update({spelled: value})
    found = conf.given(name)
    assert (found.spelled, found.origin.where.partition(",")[0]) == (spelled, __file__)
    assert conf[spelled] == conf[name] == conf.get(name) == getattr(conf, spelled) == found.value
    assert spelled in conf


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_every_name_behind_a_namespace(conf, old, new):
    conf.from_object({f"CELERY_{new.upper()}": sample(new), new: 1, "OTHER": 2}, namespace="CELERY")
    assert conf.given(new).spelled == f"CELERY_{new.upper()}"
    conf.from_object({f"MINE_{new.upper()}": sample(new)}, namespace="mine")
    assert conf.given(new).spelled == f"MINE_{new.upper()}"
    if old.startswith("CELERY_"):
        conf.from_object({old: sample(new)}, namespace="CELERY")
        assert conf.given(new).spelled == old


def test_samples_of_ours_are_other_values_than_the_defaults():
    assert SAMPLES.keys() <= SETTINGS.keys()
    for name, value in SAMPLES.items():
        assert SETTINGS[name].kind.read(value) != SETTINGS[name].default, name


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_default_is_a_value_that_could_be_given(setting):
    assert setting.kind.read(setting.default) == setting.default
