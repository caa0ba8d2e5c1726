"""NVIDIA's gpu-operator, or its device plugin alone: what its values should be, and what its DaemonSets run with.

What a DaemonSet says is what runs; the ClusterPolicy is where to change it. Facts: gpu-operator 25.3.4 to 26.7.0,
device plugin 0.17 to 0.20, container toolkit 1.17 to 1.20.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdmo.doctor.facts import ClusterFacts, Source, Workload
from cdmo.doctor.finding import Check, Status, Trouble
from cdmo.doctor.parts import discovery, plugins, true, version_in

STEADY_PLUGIN = (0, 16)  # before it, the plugin ends while a GPU has MIG on and no slices
NAMING_PLUGIN = (0, 20)  # up to 0.19.3 every suffixed profile is advertised as the bare one
_VALUES = "install the gpu-operator with the values that `cdmo gpu-operator values` prints"


def _stack(facts: ClusterFacts) -> Iterator[Trouble]:
    for name in facts.gpu_clusters:
        yield Trouble(
            f"GPUCluster/{name}",
            "the gpu-operator runs NVIDIA's DRA driver here, not the device plugin that CDMO works with",
            "remove the GPUCluster and install the gpu-operator with a ClusterPolicy",
        )
    found = plugins(facts)
    if not found and not facts.gpu_clusters:
        yield Trouble("cluster/daemonsets", "no device plugin is installed: pods get no GPUs", _VALUES)
    if len(found) > 1:
        names = ", ".join(map(str, found))
        yield Trouble(
            str(found[1]), f"several device plugins are installed and take each other's place: {names}", "remove one"
        )
    for policy in facts.cluster_policies:
        if policy.state not in ("ready", ""):
            yield Trouble(
                f"ClusterPolicy/{policy.name}",
                f"is {policy.state}: some part of the gpu-operator does not run",
                f"`kubectl describe clusterpolicy {policy.name}`, and the pods in its namespace",
                Status.WARNING,
            )


def _mig_manager(facts: ClusterFacts) -> Iterator[Trouble]:
    running = [each for each in facts.daemon_sets if _is_mig_manager(each)]
    for policy in facts.cluster_policies:
        if policy.mig_manager is not False:
            yield Trouble(
                f"ClusterPolicy/{policy.name}",
                "migManager is on: it sets layouts of its own and takes CDMO's slices away",
                _patch(policy.name, '{"migManager":{"enabled":false}}'),
            )
            return
    for each in running:
        yield Trouble(str(each), "NVIDIA's MIG manager is installed: it takes CDMO's slices away", "delete it")


def _is_mig_manager(workload: Workload) -> bool:
    return workload.name == "nvidia-mig-manager" or any(
        each.image_name == "k8s-mig-manager" for each in workload.containers
    )


def _strategy(facts: ClusterFacts) -> Iterator[Trouble]:
    for policy in facts.cluster_policies:
        by_file = policy.plugin_config and not policy.mig_strategy  # each Node's file decides: plugin_config.py
        if policy.mig_strategy != "mixed" and not by_file:
            yield Trouble(
                f"ClusterPolicy/{policy.name}",
                f"mig.strategy is {policy.mig_strategy or 'not set'}: no nvidia.com/mig-… resource is advertised",
                _patch(policy.name, '{"mig":{"strategy":"mixed"}}'),
            )
            return
    for each in (*plugins(facts), *filter(None, (discovery(facts),))):
        said = each.env("MIG_STRATEGY")
        if said != "mixed" and (said or not _by_file(facts)):
            yield Trouble(
                str(each),
                f"MIG_STRATEGY is {said or 'not set'}: it does not know slices of different sizes",
                "set it to mixed (migStrategy in the chart of the plugin); the gpu-operator does so by mig.strategy",
                Status.ERROR if each in plugins(facts) else Status.WARNING,
            )


def _by_file(facts: ClusterFacts) -> bool:
    return any(each.plugin_config for each in facts.cluster_policies)


def _devices(facts: ClusterFacts) -> Iterator[Trouble]:
    for each in plugins(facts):
        strategy = each.env("DEVICE_ID_STRATEGY")
        if strategy not in ("", "uuid"):
            yield Trouble(
                str(each),
                f"DEVICE_ID_STRATEGY is {strategy}: numbers change when slices are cut; pods get others' slices",
                _environment(facts, "devicePlugin", "DEVICE_ID_STRATEGY", "uuid"),
            )
        if not true(each.env("PASS_DEVICE_SPECS")):
            yield Trouble(
                str(each),
                "PASS_DEVICE_SPECS is not true: a pod may lose its slice when its cgroup is written anew",
                _environment(facts, "devicePlugin", "PASS_DEVICE_SPECS", '"true"'),
                Status.WARNING,
            )


def _plugin_version(facts: ClusterFacts) -> Iterator[Trouble]:
    for each in plugins(facts):
        tag = next((one.tag for one in each.containers if version_in(one.tag)), "")
        version = version_in(tag)
        if version is None:
            continue
        if version < STEADY_PLUGIN:
            yield Trouble(
                str(each),
                f"device plugin {tag} ends while a GPU has MIG on and no slices",
                "take a gpu-operator from 24.6 on, or set devicePlugin.version to v0.20.0",
            )
        elif version < NAMING_PLUGIN:
            yield Trouble(
                str(each),
                f"device plugin {tag} advertises profiles with a suffix (1g.10gb+me) as the bare ones (1g.10gb): "
                "pods that ask for them wait for ever",
                "set devicePlugin.version to v0.20.0, or do not ask for such profiles",
                Status.WARNING,
            )


def _patch(name: str, spec: str) -> str:
    return f"`kubectl patch clusterpolicy {name} --type merge -p '{{\"spec\":{spec}}}'`"


def _environment(facts: ClusterFacts, part: str, name: str, value: str) -> str:
    where = f"{part}.env of the gpu-operator's values" if facts.cluster_policies else "the DaemonSet's chart"
    return f"set {name} to {value} in {where}"


_OPERATOR = (Source.CLUSTER_POLICIES, Source.DAEMON_SETS)
CHECKS = (
    Check("gpu-stack", "one device plugin serves the GPUs", (*_OPERATOR, Source.GPU_CLUSTERS), _stack),
    Check("mig-manager", "NVIDIA's MIG manager is off", _OPERATOR, _mig_manager),
    Check("mig-strategy", "the device plugin tells slices apart (mixed)", _OPERATOR, _strategy),
    Check("device-ids", "pods get their slices by UUID, and the device nodes with them", _OPERATOR, _devices),
    Check("plugin-version", "the device plugin knows every profile", (Source.DAEMON_SETS,), _plugin_version),
)
