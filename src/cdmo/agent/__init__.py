"""PROCESS 2, the DaemonSet: one agent per GPU node, the only one that changes the node's GPUs.

loop.py tells it in five words: observe, steps, fence, apply, report. change.py is the safety protocol in order.
"""
