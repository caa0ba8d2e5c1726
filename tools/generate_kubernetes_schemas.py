"""Write the JSON Schemas of the kinds that the Helm chart makes, one file for each minor version of Kubernetes.

    python -m tools.generate_kubernetes_schemas --write    write tests/chart/schemas/kubernetes-MINOR.json
    python -m tools.generate_kubernetes_schemas --check    write nothing; exit 1 if one of them is another one

Source: the OpenAPI documents (v3) inside the Go modules that harness/go pins. They are fetched from the Go module
proxy, some hundred MB at the first time: so this is not part of `make check`. Tests read what is committed and
compare its versions with the pins.

Stricter than the documents: an object has no other fields than those that are named.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cdmo_harness.binaries import cache_root, kubernetes_module, kubernetes_versions
from cdmo_harness.build_progress import BuildProgress, show_progress
from cdmo_harness.errors import HarnessError
from cdmo_harness.go_toolchain import Toolchains
from rich.console import Console

from tools.generated import REPOSITORY, NotMade, write_or_check

TARGET = REPOSITORY / "tests" / "chart" / "schemas"

# Every kind that the chart makes, as apiVersion and kind.
KINDS = (
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
)

Json = dict[str, Any]

_GROUP_VERSION_KIND = "x-kubernetes-group-version-kind"
_REFERENCE = "#/components/schemas/"
_MODULE = "k8s.io/kubernetes"
_DOWNLOAD_S = 900
# What validation asks. Descriptions and hints for clients are most of the documents.
_KEPT = frozenset({"type", "format", "enum", "required", "minimum", "maximum", "pattern", "minLength", "maxLength"})
# The documents leave these open, where OpenAPI could not say it when they were made; the API server decodes them so.
_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_SAID: dict[str, Json] = {
    f"{_PROPS}OrBool": {"anyOf": [{"$ref": f"#/$defs/{_PROPS}"}, {"type": "boolean"}]},
    f"{_PROPS}OrArray": {
        "anyOf": [{"$ref": f"#/$defs/{_PROPS}"}, {"type": "array", "items": {"$ref": f"#/$defs/{_PROPS}"}}]
    },
    f"{_PROPS}OrStringArray": {
        "anyOf": [{"$ref": f"#/$defs/{_PROPS}"}, {"type": "array", "items": {"type": "string"}}]
    },
}


def reduced(documents: Iterable[Json], kinds: Iterable[tuple[str, str]], version: str) -> Json:
    """What one version says about these kinds, and the apiVersion/kind of everything that it serves. Raises NotMade
    for a kind that it does not have."""
    everything: Json = {}
    served: dict[str, str] = {}
    for document in documents:
        schemas = document.get("components", {}).get("schemas", {})
        everything |= schemas
        served |= {name: schema for schema, content in schemas.items() for name in _names(content)}
    missing = [f"{api_version}/{kind}" for api_version, kind in kinds if f"{api_version}/{kind}" not in served]
    if missing:
        raise NotMade(f"Kubernetes {version} has no {', '.join(missing)}")
    roots = {f"{api_version}/{kind}": served[f"{api_version}/{kind}"] for api_version, kind in kinds}
    definitions: Json = {}
    pending = sorted(set(roots.values()))
    while pending:
        name = pending.pop()
        if name not in definitions:
            definitions[name] = _SAID.get(name) or strict(everything[name])
            pending += _references(definitions[name])
    return {"version": version, "served": sorted(served), "kinds": roots, "$defs": dict(sorted(definitions.items()))}


def _names(schema: Json) -> Iterator[str]:
    """The apiVersion/kind under which objects of this schema are known: of things with a kind and metadata of their
    own, which leaves out lists and what is only sent along with a request."""
    metadata = json.dumps(schema.get("properties", {}).get("metadata", {}))
    if "meta.v1.ObjectMeta" not in metadata:
        return
    for each in schema.get(_GROUP_VERSION_KIND, ()):
        api_version = f"{each['group']}/{each['version']}" if each["group"] else each["version"]
        yield f"{api_version}/{each['kind']}"


def strict(schema: Json) -> Json:
    """What of it can be violated; an object that names its fields has no others."""
    made: Json = {key: value for key, value in schema.items() if key in _KEPT}
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace(_REFERENCE, "#/$defs/")}
    for word in ("allOf", "anyOf", "oneOf"):
        if word in schema:
            made[word] = [strict(each) for each in schema[word]]
    if len(made) == 1 and len(made.get("allOf", ())) == 1:
        return dict(made["allOf"][0])
    if "items" in schema:
        made["items"] = strict(schema["items"])
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        made["additionalProperties"] = strict(extra)
    if "properties" in schema:
        made["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        made["additionalProperties"] = False
    return made


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("#/$defs/")
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def text_of(content: Json) -> str:
    """A definition a line, so that the next version shows as a diff that can be read."""
    lines = [f"    {json.dumps(name)}: {_compact(each)}" for name, each in content["$defs"].items()]
    head = "".join(f"  {json.dumps(key)}: {_compact(content[key])},\n" for key in ("version", "served", "kinds"))
    return "{\n" + head + '  "$defs": {\n' + ",\n".join(lines) + "\n  }\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def path_of(version: str) -> Path:
    """The file of a version: one a minor, `kubernetes-1.34.json` for 1.34.4."""
    return TARGET / f"kubernetes-{'.'.join(version.split('.')[:2])}.json"


def made() -> dict[Path, str]:
    """Every file. Raises NotMade."""
    with show_progress(Console(stderr=True)) as progress:
        return {
            path_of(version): text_of(reduced(_documents(version, progress), KINDS, version))
            for version in kubernetes_versions()
        }


def _documents(version: str, progress: BuildProgress) -> Iterator[Json]:
    folder = _sources(version, progress) / "api" / "openapi-spec" / "v3"
    for path in sorted(folder.glob("*_openapi.json")):
        yield json.loads(path.read_text())


def _sources(version: str, progress: BuildProgress) -> Path:
    """The folder with the module's files, whose hash go.sum has checked. Raises NotMade."""
    module = kubernetes_module(version)
    toolchains = Toolchains(
        module.required_go,
        environment=os.environ,
        cache=cache_root(os.environ),
        progress=progress,
        python=Path(sys.executable),
    )
    try:
        go = (toolchains.present() or toolchains.install()).program
        progress.step(f"fetching {_MODULE} {version}")
        answer = subprocess.run(
            [go, "mod", "download", "-json", f"{_MODULE}@v{version}"],
            cwd=module.folder,
            capture_output=True,
            text=True,
            env={**os.environ, "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"},
            timeout=_DOWNLOAD_S,
            check=True,
        )
    except HarnessError as error:
        raise NotMade(f"{error}; {error.hint}") from error
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise NotMade(f"{_MODULE} {version} cannot be fetched from the Go module proxy: {said}") from error
    return Path(json.loads(answer.stdout)["Dir"])


if __name__ == "__main__":
    raise SystemExit(write_or_check("Schemas of the chart's kinds.", made, "the Kubernetes of harness/go"))
