"""Whether an API server refuses bindings to a node, asked with a dry-run Binding of a pod that never exists."""

from __future__ import annotations

import re

import msgspec

from cdmo.errors import ClusterError, Denied, NotFound
from cdmo.kube.answers import Refused
from cdmo.kube.connect import Connection
from cdmo.kube.errors import Status, status_of
from cdmo.kube.resources import POD, Ask
from cdmo.model.names import FENCE_POLICY, PROBE_NAMESPACE, PROBE_POD

LONGEST_VERSION = 20  # digits of a resource version

# How an API server words a refusal by a ValidatingAdmissionPolicy (apiserver 1.30 to 1.37, plugin/policy/
# validating/dispatcher.go). The quotes matter: the probe's own name begins like the policy's, and an RBAC refusal
# repeats it.
_FENCE_SAID = f"ValidatingAdmissionPolicy '{FENCE_POLICY}'"
# The version of the Node that the policy judged by, in its own message (deploy/policy/fence.yaml).
_VERSION_SAID = re.compile(rf"\(version ([0-9]{{1,{LONGEST_VERSION}}})\)")


async def refused_as_of(connection: Connection, node: str, server: str) -> int | None:
    """The version of the Node for which this API server refuses bindings to it, None if it allows them.

    Only the fence policy's own refusal is one, only the missing probe pod is none; all else raises ClusterError.
    """
    ask = Ask("create", POD, PROBE_POD, PROBE_NAMESPACE, "binding")
    body = msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": PROBE_POD, "namespace": PROBE_NAMESPACE},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
    )
    try:
        await connection.call(ask, params={"dryRun": "All"}, body=body, server=server)
    except Denied as error:
        if _FENCE_SAID in (said := _status(error).message_text):
            return _version_in(said)
        raise
    except NotFound as error:
        if _status(error).about == PROBE_POD:
            return None
        raise
    raise ClusterError(
        f"the fence of {node} cannot be probed: a pod {PROBE_NAMESPACE}/{PROBE_POD} exists",
        hint=f"delete the pod {PROBE_NAMESPACE}/{PROBE_POD}: CDMO needs that name to belong to nobody",
    )


def _version_in(said: str) -> int:
    found = _VERSION_SAID.search(said)
    if found is None:
        raise ClusterError(
            "the fence policy refuses bindings but does not say for which version of the Node",
            hint="the ValidatingAdmissionPolicy cdmo-fence is of an older CDMO: install this version's",
        )
    return int(found[1])


class _Words(msgspec.Struct, frozen=True):
    message_text: str
    about: str


def _status(error: ClusterError) -> _Words:
    """The API server's own words behind a failure, in full (the failure's sentence may be cut)."""
    refused = error.__cause__
    status = status_of(refused.answer.content) if isinstance(refused, Refused) else Status()
    return _Words(status.message or "", (status.details.name if status.details else None) or "")
