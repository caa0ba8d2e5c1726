"""Giving nodes to CDMO and taking them back: `cdmo enable` and `cdmo disable`, as an administrator.

`standing.py` says how far a node is (pure), `disable.py` and `enable.py` do what is to be done, `port.py` is what
they ask of the cluster. Every step may be repeated: who was interrupted starts the same command again.
"""
