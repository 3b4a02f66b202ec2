"""The simulation: the three production cores, driven over links that misbehave, in virtual time, from one seed.

`python -m tests.sim --help` runs histories by the thousand. `world.py` is the machinery (time, links), `nodes.py`
drives the cores as their loops do, `history.py` says what happens and what goes wrong, `laws.py` what must always be
true, `mutants.py` holds the defects that the laws must catch.
"""
