"""`make demo`: CDMO at work on a local cluster with simulated GPUs, from the first programs to a table of times.

`waves` says which pods come when, `scenario` submits them and watches, `evidence` judges what happened, `live` draws
it, `answer` is what goes to stdout. `stage` brings the cluster up and takes it down, `run` puts all that together for
`command`, the command line.
"""
