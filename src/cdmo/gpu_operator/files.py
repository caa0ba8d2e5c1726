"""The override files of deploy/gpu-operator: every one that `cdmo gpu-operator values` can print."""

from __future__ import annotations

from collections.abc import Mapping

from cdmo.gpu_operator.chart import LAST_OF_PAGE
from cdmo.gpu_operator.values import Distribution, Wanted, override


def files() -> Mapping[str, str]:
    """Content by path below deploy/gpu-operator: on.yaml, off-k3s.yaml, up-to-25.3/on.yaml, …"""
    found: dict[str, str] = {}
    for folder, chart in (("", None), (f"up-to-{LAST_OF_PAGE}/", LAST_OF_PAGE)):
        for mig, name in ((True, "on"), (False, "off")):
            for where in Distribution:
                suffix = "" if where is Distribution.KUBERNETES else f"-{where}"
                found[f"{folder}{name}{suffix}.yaml"] = override(Wanted(mig, where, chart))
    return found
