"""What users of Celery import from its utilities."""

from uuid import uuid4

__all__ = ["gen_unique_id", "uuid"]


def uuid() -> str:
    """A new id for a job, as text."""
    return str(uuid4())


gen_unique_id = uuid
