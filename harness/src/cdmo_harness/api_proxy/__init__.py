"""A proxy in front of one API server that lets go wrong what goes wrong between a process and its API server."""

from cdmo_harness.api_proxy.proxy import ApiProxy

__all__ = ["ApiProxy"]
