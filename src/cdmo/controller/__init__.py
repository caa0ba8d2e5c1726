"""PROCESS 1, the Deployment: watches pods and nodes, plans, publishes layouts. It never touches a node itself.

loop.py is the round: wait, snapshot, plan, publish.
"""
