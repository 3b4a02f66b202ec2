"""Schedules of periodic tasks: they come later, and each name here says what to do until then."""

from zmqtasks.celery._later import SCHEDULES, getter

__getattr__ = getter(__name__, SCHEDULES)
