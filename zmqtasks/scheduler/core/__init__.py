"""The scheduler's core: sans-IO, deterministic, the same in the daemon and in the simulation.

Begin with `core.py` (the way in), then `model.py` (the tables), `transitions.py` (the legal moves of a job), the verbs
filed by who speaks (`workers.py`, `submitters.py`, `operators.py`), `dispatch.py` (who gets what), `lifecycle.py` (how
a job moves on) and `check.py` (what must always hold).
"""
