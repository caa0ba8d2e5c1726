"""Fixtures of other folders that are used here."""

from tests.simulated import simulated_library

__all__ = ["simulated_library"]
