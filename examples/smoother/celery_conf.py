"""The app of the smoother as a user of Celery writes it; all that is new is the imports and the URL.

    python celery_conf.py worker -l info -c 3
    zmqtasks -A celery_conf worker --loglevel=info -c 3
    zmqtasks worker -A celery_conf -E -l INFO -n worker.high -Q high

The tasks are in celery_smoother.py. ``CELERY_RESULT_SERIALIZER`` and the backend have no meaning here, which
``zmqtasks check -A celery_conf`` tells.
"""

import os

from zmqtasks.celery import Celery, Exchange, Queue

app = Celery(
    "celery-demo",
    broker=os.environ.get("ZMQTASKS_BROKER", "tcp://127.0.0.1:5555"),
    backend="rpc://",
    include=["celery_smoother"],
)

app.conf.update(
    CELERY_TASK_RESULT_EXPIRES=3600,
    CELERY_TASK_SERIALIZER="pickle",
    CELERY_RESULT_SERIALIZER="pickle",
    CELERY_ACCEPT_CONTENT=["pickle", "json"],
    CELERY_QUEUES=(
        Queue("high", Exchange("high"), routing_key="high"),
        Queue("normal", Exchange("normal"), routing_key="normal"),
        Queue("low", Exchange("low"), routing_key="low"),
    ),
    CELERY_DEFAULT_QUEUE="normal",
    CELERY_DEFAULT_EXCHANGE="normal",
    CELERY_DEFAULT_ROUTING_KEY="normal",
    CELERY_ROUTES={"celery_smoother.smooth_edges": {"queue": "high"}},
)

if __name__ == "__main__":
    app.start()
