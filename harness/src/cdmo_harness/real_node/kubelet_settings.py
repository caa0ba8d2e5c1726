"""The kubelet of a real node: its configuration file and its command line.

Everything that a cluster's own kubelet would decide stays at its default: the status period, admission, the pod
workers. What is set here is what a machine without systemd, with little disk and with other nodes on it needs.
https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdmo_harness.control_plane_arguments import LOOPBACK
from cdmo_harness.gpu_node import NodeSetup
from cdmo_harness.real_node.layout import Layout

_DEFAULT_STATUS_PERIOD = 10.0


def configuration(setup: NodeSetup, layout: Layout) -> dict[str, Any]:
    """The KubeletConfiguration."""
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": LOOPBACK,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        # Since 1.35 a kubelet wants version 2 unless it is told.
        "failCgroupV1": False,
        "failSwapOn": False,
        # Below 0 needs CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        "resolvConf": "",
        "volumePluginDir": str(layout.folder / "volume-plugins"),
        # The disk is that of a developer's machine, maybe nearly full: no pods are evicted and no images removed.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
    }
    if setup.status_period != _DEFAULT_STATUS_PERIOD:
        settings["nodeStatusUpdateFrequency"] = f"{round(setup.status_period * 1000)}ms"
    return settings


def command(kubelet: Path, setup: NodeSetup, layout: Layout) -> list[str]:
    """How the kubelet is started; writes its configuration."""
    path = layout.folder / "kubelet.json"
    path.write_text(json.dumps(configuration(setup, layout), indent=1))
    arguments = [
        str(kubelet),
        f"--config={path}",
        f"--kubeconfig={setup.kubeconfig}",
        f"--hostname-override={setup.name}",
        f"--node-ip={layout.address}",
        "--v=2",
    ]
    if setup.labels:
        arguments.append("--node-labels=" + ",".join(f"{key}={value}" for key, value in setup.labels.items()))
    return arguments
