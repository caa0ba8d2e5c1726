"""Frozen values that everybody shares: GPUs, profiles, placements, demands, snapshots, plans.

Nothing here does I/O; the package imports the standard library, msgspec and `cdmo.errors` alone.
"""
