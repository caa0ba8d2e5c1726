"""The agent without its fence: what it is worth is measured by leaving it out.

`python -m cdmo_harness.unfenced_agent` takes the arguments of `cdmo agent`. Neither taint nor label go up, nothing is
probed; all else, the quiet time and the guard included, is as always. For tests only: pods are lost by it.
"""

from __future__ import annotations

from cdmo.agent import fence, main
from cdmo.cli import app
from cdmo.kube.port import Provided, in_any_case
from cdmo.model.cluster import NodeInfo


class NoFence(fence.Fence):
    """Says that it stands."""

    async def raise_(self) -> NodeInfo:
        """Do nothing but look at the Node."""
        return await self._api.node(self._node)

    async def verify(self) -> None:
        """Do nothing."""

    async def lower(self, provided: Provided = in_any_case) -> bool:
        """Do nothing but look at the Node."""
        return provided(await self._api.node(self._node))


def run() -> None:
    """Entry point: the agent takes Fence from its module when it is wired."""
    vars(main)["Fence"] = NoFence
    app.main()


if __name__ == "__main__":
    run()
