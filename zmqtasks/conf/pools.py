"""What a slot of a worker can be. By itself, so that ``zmqtasks --help`` need not import any codec."""

from typing import Final

POOLS: Final = ("processes", "threads", "solo")
POOLS_LATER: Final = ("asyncio", "gevent", "eventlet")
POOL_ALIASES: Final = {"prefork": "processes"}  # Celery's word
MAX_CONCURRENCY: Final = 4096
