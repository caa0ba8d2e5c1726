"""Clusters whose nodes have a real kubelet with its default settings, containerd and containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from cdmo_harness.binaries import CONTROL_PLANE, Component, find_binaries
from cdmo_harness.build_progress import show_progress
from cdmo_harness.local_cluster import LocalCluster, NodeSpec
from cdmo_harness.real_node import RealNode
from cdmo_harness.run_folder import cleanup_leftovers
from rich.console import Console

CARD = "H100-SXM5-80GB"


@contextmanager
def real_cluster(nodes: int) -> Iterator[LocalCluster]:
    """This many nodes with one GPU each; agents and controller are started apart. Raises HarnessError where this
    machine cannot run them: it takes root, containerd, runc and the CNI plugins."""
    with show_progress(Console(stderr=True)) as progress:
        binaries = find_binaries((*CONTROL_PLANE, Component.KUBELET), environment=os.environ, progress=progress)
    cleanup_leftovers()  # of a run that was killed
    specs = [NodeSpec(f"gpu-{number + 1}", (CARD,)) for number in range(nodes)]
    make_node = partial(RealNode, kubelet=binaries.path(Component.KUBELET))
    with LocalCluster(binaries, nodes=specs, make_node=make_node) as cluster:
        yield cluster
