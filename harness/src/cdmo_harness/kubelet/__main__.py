"""`python -m cdmo_harness.kubelet --node NAME --kubeconfig FILE --root DIR …`: one simulated node's kubelet.

SIGTERM ends it; its containers stay, as with the real one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import structlog

from cdmo.errors import CdmoError

from .api import Api
from .kubelet import Kubelet, KubeletSettings
from .node import NodeSettings
from .slices import SimulatedSlices

_log = structlog.get_logger(__name__)

POD_RESOURCES_DELAY = "pod-resources-delay"
LIBRARY = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"


def main() -> int:
    """Entry point; returns the exit status."""
    options = _parser().parse_args()
    try:
        settings = _settings(options)
        marker = SimulatedSlices.open(options.root / LIBRARY, options.driver_state, options.root)
        api = Api.from_kubeconfig(options.kubeconfig)
    except CdmoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    asyncio.run(_serve(Kubelet(settings, api, marker)))
    return 0


async def _serve(kubelet: Kubelet) -> None:
    work = asyncio.create_task(kubelet.run(), name="kubelet")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        _log.info("kubelet stopped")


def _settings(options: argparse.Namespace) -> KubeletSettings:
    resources = {
        "cpu": options.cpu,
        "memory": options.memory,
        "pods": str(options.pods),
        "ephemeral-storage": options.ephemeral_storage,
    }
    node = NodeSettings(
        name=options.node,
        labels=dict(label.split("=", 1) for label in options.label),
        resources=resources,
        address=options.address,
        kubelet_version=f"v1.{options.kubelet_minor}.0",
        status_period=options.status_period,
    )
    beside = options.root.parent
    return KubeletSettings(
        node=node,
        root=options.root,
        counters=beside / "kubelet-counters.json",
        runtime=beside / "kubelet-runtime.json",
        pod_resources_delay=beside / POD_RESOURCES_DELAY,
        start_latency=options.start_latency,
        kubelet_minor=options.kubelet_minor,
        seed=options.seed,
        stream_end_delay=options.stream_end_delay,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cdmo_harness.kubelet", description="Kubelet stand-in of one simulated node"
    )
    parser.add_argument("--node", required=True, help="the Node's name")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument(
        "--root", type=Path, required=True, help="the node's host root; files of the harness go beside"
    )
    parser.add_argument("--driver-state", type=Path, required=True, help="the simulated driver's state file")
    parser.add_argument("--status-period", type=float, default=10.0, help="seconds between node status writes")
    parser.add_argument("--start-latency", type=float, default=0.15, help="seconds from admission to running")
    parser.add_argument("--cpu", default="64")
    parser.add_argument("--memory", default="512Gi")
    parser.add_argument("--pods", type=int, default=110)
    parser.add_argument("--ephemeral-storage", default="1Ti")
    parser.add_argument("--address", default="127.0.0.1", help="the node's InternalIP")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="a label of the Node")
    parser.add_argument(
        "--kubelet-minor", type=int, default=37, help="37: 1.37's registration bookkeeping; less: older"
    )
    parser.add_argument(
        "--stream-end-delay",
        type=float,
        default=0.0,
        help="seconds until the end of a plugin's stream is handled, as in a throttled kubelet",
    )
    parser.add_argument("--seed", type=int, help="for the choice among equal devices; random when left out")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
