"""The local control plane is a real one: it schedules, authorizes, restarts, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cdmo_harness.binaries import CONTROL_PLANE, Binaries, Component
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.errors import ControlPlaneError, ProcessError
from cdmo_harness.processes import read_record
from cdmo_harness.run_folder import cleanup_leftovers
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.admissionregistration_v1 import (
    MatchResources,
    NamedRuleWithOperations,
    ValidatingAdmissionPolicySpec,
    Validation,
)
from lightkube.models.core_v1 import (
    Affinity,
    Container,
    NodeAffinity,
    NodeCondition,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    NodeStatus,
    PodSpec,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.admissionregistration_v1 import ValidatingAdmissionPolicy
from lightkube.resources.authentication_v1 import SelfSubjectReview
from lightkube.resources.core_v1 import ConfigMap, Node, Pod

pytestmark = pytest.mark.cluster

# Seconds for something that a controller does.
LIMIT = 15

NODE_NAME = "authentication.kubernetes.io/node-name"


Connect = Callable[[Path], Client]


@pytest.fixture
def client_of() -> Iterator[Connect]:
    """Connects with a kubeconfig; the connections are closed after the test."""
    with ExitStack() as connections:

        def connect(kubeconfig: Path) -> Client:
            config = KubeConfig.from_file(kubeconfig)
            return connections.enter_context(Client(config=config, namespace="default", trust_env=False))

        yield connect


def ready_node(name: str) -> Node:
    condition = NodeCondition(type="Ready", status="True", reason="KubeletReady", message="")
    status = NodeStatus(conditions=[condition], allocatable={"cpu": "4", "memory": "8Gi", "pods": "10"})
    return Node(metadata=ObjectMeta(name=name), status=status)


def pod(name: str, node: str | None = None) -> Pod:
    containers = [Container(name="main", image="example.invalid/main:1")]
    return Pod(metadata=ObjectMeta(name=name), spec=PodSpec(containers=containers, nodeName=node))


def only_on(node: str) -> Affinity:
    """Required affinity to one Node by its name, as DaemonSets use it."""
    this = NodeSelectorRequirement(key="metadata.name", operator="In", values=[node])
    selector = NodeSelector(nodeSelectorTerms=[NodeSelectorTerm(matchFields=[this])])
    return Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=selector))


def policy(expression: str) -> ValidatingAdmissionPolicy:
    pods = NamedRuleWithOperations(apiGroups=[""], apiVersions=["v1"], operations=["CREATE"], resources=["pods"])
    spec = ValidatingAdmissionPolicySpec(
        matchConstraints=MatchResources(resourceRules=[pods]), validations=[Validation(expression=expression)]
    )
    return ValidatingAdmissionPolicy(metadata=ObjectMeta(name="harness-test"), spec=spec)


def wait_for_pod(api: Client, name: str, condition: Callable[[Pod], bool]) -> Pod:
    for _, seen in api.watch(Pod, fields={"metadata.name": name}, server_timeout=LIMIT):
        if condition(seen):
            return seen
    raise AssertionError("unreachable: a watch goes on until it is left")


@pytest.fixture
def admin(control_plane: ControlPlane, client_of: Connect) -> Client:
    return client_of(control_plane.admin_kubeconfig)


@pytest.fixture
def node(
    control_plane: ControlPlane, admin: Client, client_of: Connect, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A Node that its own identity registered, named after the test; removed afterwards."""
    name = request.node.name.replace("_", "-")[:50].strip("-")
    own = client_of(control_plane.kubeconfig_for_node(name))
    own.create(ready_node(name))
    own.patch(Node.Status, name, {"status": ready_node(name).status})
    yield name
    try:
        admin.delete(Node, name)
    except ApiError as error:
        assert error.status.code == 404


def test_the_default_service_account_is_there_so_pods_can_be_created(admin: Client) -> None:
    created = admin.create(pod("early"))
    assert created.spec is not None
    assert created.spec.serviceAccountName == "default"
    admin.delete(Pod, "early", grace_period=0)


def test_admission_policies_are_served_and_their_expressions_checked(admin: Client) -> None:
    admin.create(policy("object.metadata.name != 'forbidden'"), dry_run=True)
    with pytest.raises(ApiError, match="undeclared reference to 'nonsense'"):
        admin.create(policy("nonsense"), dry_run=True)


def test_a_pod_is_scheduled_to_a_ready_node(admin: Client, node: str) -> None:
    # It takes the scheduler, and the node lifecycle controller to take the not-ready taint away.
    wanted = pod("to-schedule")
    assert wanted.spec is not None
    wanted.spec.affinity = only_on(node)  # the session's other tests may have nodes of their own
    admin.create(wanted)

    scheduled = wait_for_pod(
        admin, "to-schedule", lambda seen: seen.spec is not None and seen.spec.nodeName is not None
    )

    assert scheduled.spec is not None
    assert scheduled.spec.nodeName == node
    admin.delete(Pod, "to-schedule", grace_period=0)


def test_a_node_may_not_touch_another_node(control_plane: ControlPlane, client_of: Connect, node: str) -> None:
    stranger = client_of(control_plane.kubeconfig_for_node("stranger"))

    with pytest.raises(ApiError, match=f'node "stranger" is not allowed to modify node "{node}"'):
        stranger.patch(Node, node, {"metadata": {"labels": {"stolen": "true"}}})


def test_a_token_bound_to_a_node_says_so_and_ends_with_the_node(
    control_plane: ControlPlane, admin: Client, client_of: Connect, node: str
) -> None:
    kubeconfig = control_plane.service_account_kubeconfig("default", "default", node=node)

    review = client_of(kubeconfig).create(SelfSubjectReview())
    assert review.status is not None
    assert review.status.userInfo is not None
    assert review.status.userInfo.username == "system:serviceaccount:default:default"
    assert (review.status.userInfo.extra or {})[NODE_NAME] == [node]

    # The API server remembers for some seconds that a token was good, so this is about a token not yet seen.
    fresh = client_of(control_plane.service_account_kubeconfig("default", "default", node=node))
    admin.delete(Node, node)
    with pytest.raises(ApiError, match="Unauthorized"):
        fresh.create(SelfSubjectReview())

    with pytest.raises(ControlPlaneError, match=r"refused POST .*nodes \"no-such-node\" not found"):
        control_plane.service_account_kubeconfig("default", "default", node="no-such-node")


def test_a_token_without_a_node_names_none(control_plane: ControlPlane, client_of: Connect) -> None:
    kubeconfig = control_plane.service_account_kubeconfig("default", "default")

    review = client_of(kubeconfig).create(SelfSubjectReview())

    assert review.status is not None
    assert review.status.userInfo is not None
    assert NODE_NAME not in (review.status.userInfo.extra or {})
    assert kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_a_path_is_refused(control_plane: ControlPlane) -> None:
    with pytest.raises(ControlPlaneError, match="not a name that Kubernetes accepts"):
        control_plane.kubeconfig_for_node("../admin")


def test_kubectl_speaks_to_this_cluster(control_plane: ControlPlane) -> None:
    manifest = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "from-kubectl"}}'

    assert control_plane.kubectl("create", "-f", "-", stdin=manifest) == "configmap/from-kubectl created\n"
    with pytest.raises(ControlPlaneError, match=r'kubectl get configmap absent failed: .*"absent" not found'):
        control_plane.kubectl("get", "configmap", "absent")


def test_only_the_api_server_listens_and_only_on_loopback(control_plane: ControlPlane) -> None:
    listening = {component: listen_addresses(control_plane.process(component).pid) for component in CONTROL_PLANE}

    api_server = listening.pop(Component.API_SERVER)
    assert api_server == {control_plane.server.removeprefix("https://")}
    assert all(addresses == set() for addresses in listening.values())


def listen_addresses(pid: int) -> set[str]:
    """TCP addresses on which a process listens (/proc/PID/net/tcp, proc(5)); IPv6 ones as their hex form."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                readable = ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
                found.add(f"{readable if table == 'tcp' else address}:{int(port, 16)}")
    return found


@pytest.mark.timeout(90)
def test_the_api_server_comes_back_on_the_same_port_with_its_data(control_plane: ControlPlane, admin: Client) -> None:
    admin.create(ConfigMap(metadata=ObjectMeta(name="survivor"), data={"key": "value"}))
    before = control_plane.server, control_plane.process(Component.API_SERVER).pid

    control_plane.stop_api_server()
    with pytest.raises(ControlPlaneError, match="did not answer"):
        control_plane.service_account_kubeconfig("default", "default")
    control_plane.start_api_server()

    assert control_plane.server == before[0]
    assert control_plane.process(Component.API_SERVER).pid != before[1]
    assert admin.get(ConfigMap, "survivor").data == {"key": "value"}


@pytest.mark.timeout(60)
def test_a_component_that_refuses_its_arguments_is_quoted_and_nothing_stays(
    binaries: Binaries, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("t") / "cdmo"
    extra = {Component.API_SERVER: ["--no-such-flag"]}

    with pytest.raises(ProcessError, match=r"(?s)kube-apiserver ended with status 1 .*no-such-flag"):
        ControlPlane(binaries, directory=directory, extra_arguments=extra).start()

    assert not directory.exists()


def test_a_stopped_control_plane_says_so(binaries: Binaries) -> None:
    stopped = ControlPlane(binaries)

    with pytest.raises(ControlPlaneError, match="not started"):
        _ = stopped.server
    stopped.stop()


_CRASHING_CALLER = """
import os, signal, sys
from pathlib import Path
from cdmo_harness.binaries import CONTROL_PLANE, Binaries, Component
from cdmo_harness.control_plane import ControlPlane
paths = dict(zip(CONTROL_PLANE, map(Path, sys.argv[2:]), strict=True))
ControlPlane(Binaries(paths), directory=Path(sys.argv[1])).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.timeout(90)
def test_a_killed_caller_leaves_no_process_and_its_folder_can_be_removed(
    binaries: Binaries, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("t")
    directory = parent / "cdmo-killed"
    programs = [str(binaries.path(component)) for component in CONTROL_PLANE]

    caller = subprocess.run([sys.executable, "-c", _CRASHING_CALLER, str(directory), *programs], timeout=60)

    assert caller.returncode == -signal.SIGKILL
    records = [read_record(path) for path in (directory / "run").glob("*.process")]
    assert len(records) == len(CONTROL_PLANE)
    assert all(record is not None and ends(record.pid) for record in records)
    assert cleanup_leftovers(parent) == [directory]
    assert not directory.exists()


def ends(pid: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], LIMIT)[0])
    finally:
        os.close(pidfd)
