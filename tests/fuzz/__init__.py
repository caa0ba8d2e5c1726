"""Hostile input for everything that reads from outside: see docs/fuzzing.md."""
