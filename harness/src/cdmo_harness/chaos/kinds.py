"""Every kind of fault there is."""

from __future__ import annotations

from cdmo_harness.chaos.faults_gpus import GPUS
from cdmo_harness.chaos.faults_network import NETWORK
from cdmo_harness.chaos.faults_nodes import NODES
from cdmo_harness.chaos.faults_pods import PODS
from cdmo_harness.chaos.faults_processes import PROCESSES
from cdmo_harness.chaos.schedule import FaultKind

KINDS: tuple[FaultKind, ...] = (*PROCESSES, *NETWORK, *NODES, *GPUS, *PODS)
