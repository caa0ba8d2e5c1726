"""How a slice gets from the device plugin into a container: the list of devices, the toolkit that reads it, and CDI.

The device plugin names the devices of a container (DEVICE_LIST_STRATEGY): in a variable, as mounts, or by CDI.
What it writes must be what the container toolkit on the other side reads. From gpu-operator 25.10 on CDI is the
toolkit's default, while devicePlugin.env still decides what the plugin writes: the guide's values then do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdmo.doctor.facts import ClusterFacts, Source, Workload
from cdmo.doctor.finding import Check, Status, Trouble
from cdmo.doctor.parts import plugins, toolkit, true

MOUNTS, VARIABLE = "volume-mounts", "envvar"
_VALUES = "`cdmo gpu-operator values > gpu-operator.override.yaml`, then `helm upgrade … -f` it"
_READ_BY_LIST = ("", "auto", "legacy")  # modes of the runtime in which mounts and variables are read


def _strategies(plugin: Workload) -> tuple[str, ...]:
    """What the plugin writes. Its own default is the variable."""
    return tuple(each.strip() for each in (plugin.env("DEVICE_LIST_STRATEGY") or VARIABLE).split(","))


def _list(facts: ClusterFacts) -> Iterator[Trouble]:
    for plugin in plugins(facts):
        said = _strategies(plugin)
        if VARIABLE in said:
            yield Trouble(
                str(plugin),
                "DEVICE_LIST_STRATEGY is envvar: a pod can name GPUs that it was not given, by a variable of its own",
                f"set it to {MOUNTS}: {_VALUES}",
                Status.WARNING,
            )


def _toolkit(facts: ClusterFacts) -> Iterator[Trouble]:
    reader = toolkit(facts)
    if reader is None:
        return  # the host's own; what it is told is written there
    writers = [set(_strategies(each)) for each in plugins(facts)]
    mounts = any(MOUNTS in each for each in writers)
    if mounts and not true(reader.env("ACCEPT_NVIDIA_VISIBLE_DEVICES_AS_VOLUME_MOUNTS")):
        yield Trouble(
            str(reader),
            "the plugin hands slices out as mounts, which the toolkit does not read "
            "(ACCEPT_NVIDIA_VISIBLE_DEVICES_AS_VOLUME_MOUNTS is not true)",
            _VALUES,
        )
    by_variable = reader.env("ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED")
    if by_variable != "" and not true(by_variable):
        if any(each == {VARIABLE} for each in writers):
            yield Trouble(
                str(reader),
                "the plugin hands slices out by a variable, which the toolkit does not read "
                "(ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED is false)",
                _VALUES,
            )
    elif mounts:
        yield Trouble(
            str(reader),
            "any pod gets any GPU by asking for it in NVIDIA_VISIBLE_DEVICES "
            "(ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED is not false)",
            _VALUES,
            Status.WARNING,
        )


def _cdi(facts: ClusterFacts) -> Iterator[Trouble]:
    mounting = [each for each in plugins(facts) if MOUNTS in _strategies(each)]
    policy = next(iter(facts.cluster_policies), None)
    reader = toolkit(facts)
    if policy is not None and policy.nri and mounting:
        yield Trouble(
            f"ClusterPolicy/{policy.name}",
            "cdi.nriPluginEnabled leaves containerd's runtimes alone, so that nobody reads the mounts of the plugin",
            f"turn it off and CDI with it: {_VALUES}",
        )
    elif mounting and reader is not None and _reads_cdi_only(reader):
        about = f"ClusterPolicy/{policy.name}" if policy is not None else str(reader)
        yield Trouble(
            about,
            "CDI is on (the default from gpu-operator 25.10 on) while the plugin hands slices out as mounts: pods "
            "get device nodes, but no driver libraries",
            f"add `cdi: {{enabled: false}}` to the gpu-operator's values: {_VALUES}",
        )
    if policy is not None and policy.cdi is False:
        for each in plugins(facts):
            if all(one.startswith("cdi-") for one in _strategies(each)):
                yield Trouble(
                    str(each),
                    "hands slices out by CDI, which is off (cdi.enabled is false): pods get no slice",
                    f"set DEVICE_LIST_STRATEGY to {MOUNTS}: {_VALUES}",
                )


def _reads_cdi_only(reader: Workload) -> bool:
    """Whether pods without a runtime class do not come by the toolkit, or it looks for CDI names alone."""
    default = reader.env("NVIDIA_RUNTIME_SET_AS_DEFAULT")
    by_passed = default != "" and not true(default)
    return by_passed or reader.env("NVIDIA_CONTAINER_RUNTIME_MODE") not in _READ_BY_LIST


_NEEDS = (Source.CLUSTER_POLICIES, Source.DAEMON_SETS)
CHECKS = (
    Check("device-list", "nobody gets a GPU by a variable", _NEEDS, _list),
    Check("toolkit", "the toolkit reads what the device plugin writes, and nothing else", _NEEDS, _toolkit),
    Check("cdi", "CDI is not in the way of the device plugin", _NEEDS, _cdi),
)
