"""The kinds of object CDMO talks to, and one request to one of them.

`Kind` knows its address under the API server, `Ask` is one request in words: every failure names it.
The policies CDMO installs are manifests (deploy/policy), not code.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from cdmo.model import names


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object, as the API server files it."""

    kind: str
    plural: str
    group: str = ""  # empty: the core group
    version: str = "v1"
    namespaced: bool = False

    @property
    def api_version(self) -> str:
        """`apiVersion` as objects of this kind carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, name: str = "", namespace: str = "", subresource: str = "") -> str:
        """Path under the server's base URL. Without a name: the collection; without a namespace: of all of them."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        # Names may come from a command line: quoted, none of them can climb out of its place in the path.
        return "/".join(map(_quoted, parts))


def _quoted(part: str) -> str:
    # A segment of one or two dots has a meaning of its own, which quoting leaves it.
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


POD = Kind("Pod", "pods", namespaced=True)
NODE = Kind("Node", "nodes")
NAMESPACE = Kind("Namespace", "namespaces")
CLAIM = Kind("PersistentVolumeClaim", "persistentvolumeclaims", namespaced=True)
VOLUME = Kind("PersistentVolume", "persistentvolumes")
STORAGE_CLASS = Kind("StorageClass", "storageclasses", "storage.k8s.io")
ENDPOINT_SLICE = Kind("EndpointSlice", "endpointslices", "discovery.k8s.io", namespaced=True)
LEASE = Kind("Lease", "leases", "coordination.k8s.io", namespaced=True)
EVENT = Kind("Event", "events", "events.k8s.io", namespaced=True)
TOKEN_REVIEW = Kind("TokenReview", "tokenreviews", "authentication.k8s.io")
SUBJECT_ACCESS_REVIEW = Kind("SubjectAccessReview", "subjectaccessreviews", "authorization.k8s.io")
MIG_NODE = Kind("MigNode", "mignodes", names.GROUP, names.VERSION)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what is wanted of which object."""

    verb: str  # get | list | watch | create | patch | delete
    kind: Kind
    name: str = ""
    namespace: str = ""
    subresource: str = ""

    @property
    def path(self) -> str:
        """Where it goes, under the server's base URL."""
        # A POST goes to the collection, unless it creates a subresource of a named object.
        named = self.name if self.verb != "create" or self.subresource else ""
        return self.kind.path(named, self.namespace, self.subresource)

    def __str__(self) -> str:
        what = f"the {self.subresource} of {self.kind.kind}" if self.subresource else self.kind.kind
        if not self.name:
            where = f" in namespace {self.namespace}" if self.namespace else ""
            return f"{self.verb} {self.kind.plural}{where}"
        return f"{self.verb} {what} {self.namespace + '/' if self.namespace else ''}{self.name}"
