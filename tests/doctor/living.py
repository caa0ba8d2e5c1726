"""A recorded cluster behind an API server of loopback: it answers lists, says who may do what, and may refuse."""

from __future__ import annotations

import json
from collections.abc import Collection

from tests.doctor.recorded import Recorded
from tests.fakes.api_server import Exchange, FakeApiServer
from tests.fakes.api_store import Refused


class LivingCluster(FakeApiServer):
    """Serves what was recorded. `forbidden`: plurals of which nothing may be read or created."""

    def __init__(self, cluster: Recorded, forbidden: Collection[str] = ()) -> None:
        super().__init__()
        self._cluster = cluster
        self._forbidden = forbidden
        for path, found in cluster.paths():
            self.store.apply(path, found)

    async def serve(self, exchange: Exchange) -> None:
        """The version, access reviews, refusals; the rest as any fake API server."""
        request = exchange.request
        plural = next((each for each in self._forbidden if each in request.path.split("/")), "")
        if plural:
            await exchange.refuse(Refused(403, "Forbidden", f"{plural} is forbidden"))
        elif request.path == "/version":
            await exchange.reply(200, json.dumps({"gitVersion": self._cluster.version}).encode())
        elif request.path.endswith("/subjectaccessreviews"):
            await exchange.reply(
                201, json.dumps({"status": {"allowed": self._allowed(request.json()["spec"])}}).encode()
            )
        else:
            await super().serve(exchange)

    def _allowed(self, spec: dict[str, dict[str, str]]) -> bool:
        _, _, namespace, name = str(spec["user"]).split(":")
        asked = spec["resourceAttributes"]
        group, part = asked["group"], asked["subresource"]
        resource = f"{asked['resource']}{'.' + group if group else ''}{'/' + part if part else ''}"
        return (f"{namespace}/{name}", resource) not in self._cluster.denied
