"""`cdmo simulate`: the planner in virtual time over a workload. Pure: files, clocks and seeds stay with the caller.

cards, catalogue     what known products can be cut into
cluster              a cluster of equal nodes, made up
workload, trace      pods that arrive: generated from a mix, or read from CSV
world                the virtual cluster: carries a plan out at once, refuses what a driver would refuse
run                  virtual time: ends, arrivals, a plan an instant
timeline, figures    what is measured on the way, and what is made of it (docs/simulate.md defines the figures)
"""
