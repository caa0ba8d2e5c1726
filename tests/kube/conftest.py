"""The API proxy in front of the session's control plane, for the tests that name it."""

from tests.proxied import kubeconfig, proxy, running_proxy

__all__ = ["kubeconfig", "proxy", "running_proxy"]
