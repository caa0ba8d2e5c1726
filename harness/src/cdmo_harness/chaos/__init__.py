"""Chaos on a local cluster: faults drawn from a seed while pods come and go, judged from outside CDMO.

`python -m cdmo_harness.chaos --seed 7 --minutes 5`; docs/chaos.md tells how to read what it prints.
"""
