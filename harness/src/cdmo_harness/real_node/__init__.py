"""GPU nodes with a real kubelet, containerd and running containers, in namespaces of their own. Linux, root."""

from cdmo_harness.real_node.node import RealNode

__all__ = ["RealNode"]
