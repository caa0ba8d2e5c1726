"""The server of a process, put together."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from cdmo.runtime.clock import Clock
from cdmo.serving.access import AccessLimits, AccessReviewer, OpenAccess, ReviewedAccess
from cdmo.serving.health import Health
from cdmo.serving.pages import Pages
from cdmo.serving.server import Server, ServerLimits, listen
from cdmo.serving.settings import ServingSettings


def server_of(
    settings: ServingSettings,
    health: Health,
    registry: CollectorRegistry,
    reviewer: AccessReviewer,
    name: str,
    clock: Clock,
) -> Server:
    """A server that listens already; `run` it. Raises BadSettings.

    name: of the process, in a certificate that is made here.
    """
    open_to_all = settings.loopback
    access = OpenAccess() if open_to_all else ReviewedAccess(reviewer, clock, AccessLimits())
    context = None
    if settings.tls:
        # Imported only where needed: the library is large, and on loopback there is plain HTTP.
        from cdmo.serving.tls import FileCertificate, self_signed

        if settings.certificate is not None and settings.key is not None:
            context = FileCertificate(settings.certificate, settings.key).context
        else:
            context = self_signed(name, clock.now())
    listener = listen(settings.host, settings.port)
    return Server(listener, Pages(health, registry, access), context, ServerLimits())
