"""The `cdmo` command: one module a verb.

Tables and JSON go to stdout, talk to stderr; the exit code is the answer.
"""
