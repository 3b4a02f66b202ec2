"""The simulation: the three production cores, driven over links that misbehave, in virtual time, from one seed.

`python -m tests.sim --help` runs histories by the thousand. `world.py` is the machinery (time, links), `nodes.py` drives
the cores as their loops do, `laws.py` holds what must always be true, `faults.py` what goes wrong, `mutants.py` the
defects that the laws must catch.
"""
