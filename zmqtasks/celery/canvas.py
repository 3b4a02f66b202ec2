"""Groups, chains and chords: they come later, and each name here says what to do until then."""

from zmqtasks.celery._later import CANVAS, getter

__getattr__ = getter(__name__, CANVAS)
