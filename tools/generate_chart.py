"""Write what the Helm chart has from elsewhere: the manifests of deploy/, and the schema and README of its values.

    python -m tools.generate_chart --write    write files/, values.schema.json and README.md of the chart
    python -m tools.generate_chart --check    write nothing; exit 1 if one of them is another one

deploy/ is where the CRD, the roles and the policies are kept; a packaged chart can read only what lies in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tools.chart_values import Value, read_values, schema
from tools.generated import REPOSITORY, NotMade, write_or_check

DEPLOY = REPOSITORY / "deploy"
CHART = REPOSITORY / "charts" / "clearml-dynamic-mig-operator"

# The namespace is Helm's to make; controller.yaml and agent.yaml have templates of their own.
COPIED = ("crds/*.yaml", "hooks/*.yaml", "policy/*.yaml", "rbac/*.yaml")
NOT_COPIED = frozenset({"rbac/namespace.yaml"})

HEAD = """<!-- Generated from values.yaml by tools/generate_chart.py (`make crd`); do not edit. -->

# clearml-dynamic-mig-operator

CDMO, the open Dynamic MIG Operator: a controller, an agent on each labelled node, the CRD `MigNode`, their roles and
the admission policies that hold a node's pods back while it changes. Needs Kubernetes 1.30 and Helm 3.17 or newer.

```
helm upgrade -i -n cdmo cdmo charts/clearml-dynamic-mig-operator --create-namespace -f cdmo-values.override.yaml
```

- One release in a cluster, in a namespace of its own: the fence lets pods of that namespace through.
- The CRD is upgraded with the release. `helm uninstall` leaves it, unless `crds.keep` is false, and leaves pods,
  slices and MIG mode as they are. Take the label off the nodes first.
- `helm uninstall` first runs a Job, `cdmo-settle`, that keeps the controllers from planning and waits until no node
  is in the middle of a change: an agent that goes in the middle leaves its node fenced. When one still is after
  `uninstall.waitSeconds`, or the Job's image cannot be had, Helm stops and takes nothing away. The reason is in
  `kubectl logs -n cdmo job/cdmo-settle`. Uninstall again later; or go on with `helm rollback -n cdmo cdmo REVISION`
  (the last one of `helm history`), for Helm has noted that the release is being uninstalled and does not upgrade it.
  `helm uninstall --no-hooks` does not ask. By hand: `cdmo settle`.
- After each install and upgrade a Job runs `cdmo doctor`; its log is the report:
  `kubectl logs -n cdmo -l app.kubernetes.io/component=doctor --tail=-1`. Helm neither waits for it nor fails with it,
  unless asked to by `--wait-for-jobs`.
- Where something else than Helm applies the objects: `helm template --no-hooks`, else the Job of the uninstall runs
  at once; and `doctor.enabled` off, for the name of its Job counts Helm's revisions.
- MicroK8s keeps the kubelet elsewhere: `--set agent.kubeletRoot=/var/snap/microk8s/common/var/lib/kubelet`. k3s has
  it at the usual place. A symbolic link there is followed.
- To install again under another name or namespace, or where `kubectl apply` was used before: `--take-ownership`.
- The agent is privileged. Where the cluster enforces Pod Security:
  `kubectl label namespace cdmo pod-security.kubernetes.io/enforce=privileged`.

## Values

| Value | Default | Means |
|---|---|---|
"""


def made() -> dict[Path, str]:
    """Every generated file of the chart and its text. Raises NotMade."""
    values = read_values((CHART / "values.yaml").read_text())
    files = {CHART / "files" / name: (DEPLOY / name).read_text() for name in _copied()}
    left = [path for path in sorted((CHART / "files").rglob("*")) if path.is_file() and path not in files]
    if left:
        raise NotMade(f"{left[0].name} in the chart's files/ has no manifest in deploy/ any more: remove it")
    files[CHART / "values.schema.json"] = json.dumps(schema(values), indent=2) + "\n"
    files[CHART / "README.md"] = HEAD + "".join(map(_row, values))
    return files


def _copied() -> Iterator[str]:
    for pattern in COPIED:
        names = (str(path.relative_to(DEPLOY)) for path in sorted(DEPLOY.glob(pattern)))
        yield from (name for name in names if name not in NOT_COPIED)


def _row(value: Value) -> str:
    if value.sub_schema is None:
        return f"| **`{value.name}`** | | {value.comment} |\n"
    allowed = value.sub_schema.get("enum")
    choice = f" One of {', '.join(f'`{each}`' for each in allowed)}." if allowed else ""
    return f"| `{value.name}` | `{json.dumps(value.default)}` | {value.comment}{choice} |\n"


if __name__ == "__main__":
    raise SystemExit(write_or_check("The chart's copies, schema and README.", made, "deploy/ and values.yaml"))
