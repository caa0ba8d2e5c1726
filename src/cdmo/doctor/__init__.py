"""What stands between a cluster and MIG slices on demand: checks over what was read. Nothing is asked here.

facts.py    what was read, as values
finding.py  what a check says
checks.py   every check, in the order they are run in
"""

from cdmo.doctor.checks import CHECKS, diagnose
from cdmo.doctor.facts import ClusterFacts, Source
from cdmo.doctor.finding import Check, Finding, Status

__all__ = ["CHECKS", "Check", "ClusterFacts", "Finding", "Source", "Status", "diagnose"]
