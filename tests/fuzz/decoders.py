"""Objects of the API server, a refusal, a quantity: bytes to values of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from cdmo.kube.errors import failure_of_status, status_of
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.quantity import amount
from cdmo.kube.resources import POD, Ask
from cdmo.kube.slim import node_info, pod_info
from cdmo.kube.slim_storage import claim_info, class_info, namespace_labels, volume_info
from cdmo.kube.wire import identity
from cdmo.model.cluster import NodeInfo, PodInfo
from tests.fuzz import seeds
from tests.fuzz.mutate import Seed
from tests.fuzz.target import Run, Target

MOST = 10**90  # what forty digits and a suffix can say


def _check_counts(value: Any) -> None:
    tables = (
        [value.requests, dict(value.demand)]
        if isinstance(value, PodInfo)
        else [value.allocatable, value.capacity]
        if isinstance(value, NodeInfo)
        else []
    )
    for count in (count for table in tables for count in table.values()):
        assert type(count) is int and abs(count) <= MOST
    if isinstance(value, PodInfo):
        assert abs(value.priority) <= 2**31


def _decoding(convert: Callable[[msgspec.Raw], Any]) -> Callable[[Path], AbstractContextManager[Run]]:
    """Whatever it says, it is known by its key or by none, and it is a value or one of two failures."""

    def run(content: bytes) -> bool:
        key, version = identity(msgspec.Raw(content))
        assert isinstance(key, str) and isinstance(version, str)
        try:
            value = convert(msgspec.Raw(content))
        except (msgspec.MsgspecError, ValueError):
            return False
        _check_counts(value)
        assert convert(msgspec.Raw(content)) == value
        if convert is mig_node:
            assert mig_node(msgspec.json.encode(value)) == value
        return True

    return _ready(run)


def _ready(run: Run) -> Callable[[Path], AbstractContextManager[Run]]:
    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        yield run

    return prepare


def _refusal(content: bytes) -> bool:
    status = status_of(content)
    failure = failure_of_status(status, status.code or 500, Ask("get", POD, "train", "ml"))
    assert str(failure).isprintable() and 0 < len(str(failure)) < 5000
    assert failure.hint.isprintable()
    return status.reason is not None


def _refusals() -> Sequence[Seed]:
    details = {"name": "cdmo-fence-probe", "kind": "pods", "causes": [{"field": "spec", "message": "wrong"}]}
    return [
        {"kind": "Status", "message": "no", "reason": "Forbidden", "code": 403, "details": details},
        {"kind": "Status", "message": "x" * 700, "reason": "AlreadyExists", "code": 409},
        b"upstream connect error",
    ]


def _quantity(content: bytes) -> bool:
    resource, _, text = content.decode("utf-8", "replace").partition(" ")
    try:
        value = amount(resource, text)
    except ValueError:
        return False
    assert type(value) is int and abs(value) <= MOST
    assert text.isascii()
    return True


_QUANTITIES = (
    b"cpu 500m",
    b"memory 40Gi",
    b"nvidia.com/gpu 2",
    b"cpu 1.5e3",
    b"memory 12E",
    b"cpu .5",
    b"memory -1k",
)

TARGETS = (
    Target("pod", 10, seeds.pods, _decoding(pod_info)),
    Target("node", 6, seeds.nodes, _decoding(node_info)),
    Target("mignode", 8, seeds.mignodes, _decoding(mig_node)),
    Target("claim", 3, seeds.claims, _decoding(claim_info)),
    Target("volume", 3, seeds.volumes, _decoding(volume_info)),
    Target("storageclass", 2, seeds.classes, _decoding(class_info)),
    Target("namespace", 1, seeds.namespaces, _decoding(namespace_labels)),
    Target("refusal", 3, _refusals, _ready(_refusal)),
    Target("quantity", 4, lambda: _QUANTITIES, _ready(_quantity)),
)
