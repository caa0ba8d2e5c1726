"""Where to serve and with which certificate, as a person gives it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cdmo.errors import BadSettings

_HINT = "it must look like 127.0.0.1:8080, 0.0.0.0:8443 or [::]:8443; port 0 takes any free one and logs it"


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """An address to bind, checked. Off loopback there is always TLS: tokens never travel in the clear."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken: with the given certificate, else with one made at the start."""
        return self.certificate is not None or not self.loopback


# Any free port, which is told in the log: several agents and controllers may run on one machine.
LOOPBACK = ServingSettings("127.0.0.1", 0)


def serving_settings(listen: str, certificate: Path | None, key: Path | None) -> ServingSettings:
    """Check what was given: ADDRESS:PORT and PEM files. Raises BadSettings."""
    host, port = _address(listen)
    if (certificate is None) != (key is None):
        raise BadSettings(
            "only one of certificate and key is given", hint="give both --tls-certificate and --tls-key, or none"
        )
    return ServingSettings(host, port, certificate, key)


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        number = int(port) if port.isascii() and port.isdigit() else -1
        if not colon or not 0 <= number <= 65535:
            raise ValueError(port)
        return str(ipaddress.ip_address(host)), number
    except ValueError as error:
        raise BadSettings(f"{listen[:100]!r} is no address to listen on", hint=_HINT) from error
