"""A demonstration written for Celery, as it stands but for its imports and URL, with workers on three hosts."""

import json
import subprocess
import sys
from pathlib import Path

from tests.hosts.cluster import ZMQTASKS, Cluster, Program, until
from tests.hosts.network import Network

CONF = """
from zmqtasks.celery import Celery

app = Celery('celery-demo',
             broker='{url}',
             backend='amqp://',
             include=['celery_smoother', 'myapp.tasks'])

app.config_from_object('celeryconfig')

app.conf.update(
    CELERY_TASK_RESULT_EXPIRES=3600,
    CELERY_TASK_SERIALIZER='pickle',
    CELERY_RESULT_SERIALIZER='pickle',
    CELERY_ACCEPT_CONTENT=['pickle', 'json'],
)

if __name__ == '__main__':
    app.start()
"""

CONFIG = """
from zmqtasks.celery import Exchange, Queue

CELERY_QUEUES = (
    Queue('high', Exchange('high'), routing_key='high'),
    Queue('normal', Exchange('normal'), routing_key='normal'),
    Queue('low', Exchange('low'), routing_key='low'),
)
CELERY_DEFAULT_QUEUE = 'normal'
CELERY_DEFAULT_EXCHANGE = 'normal'
CELERY_DEFAULT_ROUTING_KEY = 'normal'
CELERY_ROUTES = {
    'myapp.tasks.check_payment_status': {'queue': 'high'},
    'myapp.tasks.close_session': {'queue': 'low'},
}
"""

SMOOTHER = """
import numpy as np
from celery_conf import app

@app.task(bind=True)
def smooth(self, tile):
    return (tile[:-1] + tile[1:]) / 2, self.request.hostname
"""

MYAPP = """
import socket
from zmqtasks.celery import current_task, shared_task

@shared_task
def check_payment_status(order):
    return order, current_task.request.hostname, socket.gethostname()

@shared_task
def close_session(session):
    return session, current_task.request.hostname, socket.gethostname()
"""

SCRIPT = """
import json
import numpy as np
from celery_conf import app
from celery_smoother import smooth
from myapp.tasks import check_payment_status, close_session

tile = np.arange(12.0).reshape(3, 4)
results = [smooth.delay(tile) for _ in range(5)]
print(json.dumps({
    "high": [check_payment_status.delay(n).get(timeout=30) for n in range(5)],
    "low": [close_session.apply_async((n,)).get(timeout=30) for n in range(5)],
    "asked": close_session.apply_async((9,), queue='high').get(timeout=30),
    "key": close_session.apply_async((9,), exchange='normal', routing_key='normal').get(timeout=30),
    "normal": [result.get(timeout=30)[1] for result in results],
    "smooth": all(np.array_equal(result.get()[0], tile[:-1] + 2) for result in results),
}))
"""


def test_the_demonstration_on_three_hosts(network: Network, cluster: Cluster, tmp_path: Path) -> None:
    head = network.host("head")
    url, _ = cluster.scheduler(head, "--in-memory")
    (tmp_path / "myapp").mkdir()
    for name, text in {
        "celery_conf": CONF.format(url=url), "celeryconfig": CONFIG, "celery_smoother": SMOOTHER, "script": SCRIPT,
        "myapp/__init__": "", "myapp/tasks": MYAPP,
    }.items():  # fmt: skip
        (tmp_path / f"{name}.py").write_text(text)
    workers = []
    for queue in ("high", "normal", "low"):
        words = ["worker", "-A", "celery_conf", "-E", "-l", "INFO", "-n", f"worker.{queue}", "-Q", queue]
        workers.append(Program(network.host(f"host-{queue}"), tmp_path, [*ZMQTASKS, *words]))
    for worker in workers:
        worker.line(r"^zmqtasks worker \S+ ready: ")

    script = head.popen([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, told = script.communicate(timeout=60)

    assert script.returncode == 0, told + "".join(worker.told() for worker in workers)
    found = json.loads(out)
    assert found["high"] == [[n, "worker.high", "host-high"] for n in range(5)]
    assert found["low"] == [[n, "worker.low", "host-low"] for n in range(5)]
    assert found["asked"] == [9, "worker.high", "host-high"]
    assert found["key"] == [9, "worker.normal", "host-normal"]
    assert found["normal"] == ["worker.normal"] * 5
    assert found["smooth"] is True
    for worker in workers:
        assert "not needed: -E (" in worker.text()
        worker.process.terminate()
    for worker in workers:
        until(lambda worker=worker: worker.process.poll() is not None, worker.told)
        assert worker.process.returncode == 0, worker.told()
