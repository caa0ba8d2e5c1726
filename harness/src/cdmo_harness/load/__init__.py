"""Continuous load on a running cluster, and what became of its pods."""

from cdmo_harness.load.load import Load, LoadSettings
from cdmo_harness.load.tally import Tally

__all__ = ["Load", "LoadSettings", "Tally"]
