"""A container image of one program: an OCI image layout in a tar file, as https://github.com/opencontainers/image-spec
describes it. No registry and no image tool is needed."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

_EPOCH = "1970-01-01T00:00:00Z"  # the same program makes the same image
_FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "var", "var/run")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OCI = "application/vnd.oci.image"


def write_image(path: Path, names: list[str], program: Path) -> None:
    """Write the image with `program` as its entry point, under each of these names ("host/repository:tag")."""
    layer = _layer(program)
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    config = _encoded(
        {
            "created": _EPOCH,
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "Env": ["PATH=/"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _encoded(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor(f"{_OCI}.config.v1+json", config),
            "layers": [_descriptor(f"{_OCI}.layer.v1.tar", layer)],
        }
    )
    entry = {
        **_descriptor(f"{_OCI}.manifest.v1+json", manifest),
        "platform": {"architecture": architecture, "os": "linux"},
    }
    # containerd takes the full name from its own annotation; the OCI one holds a tag alone.
    manifests = [{**entry, "annotations": {"io.containerd.image.name": name}} for name in names]
    files = {f"blobs/sha256/{_digest(each)[7:]}": each for each in (layer, config, manifest)}
    files["oci-layout"] = _encoded({"imageLayoutVersion": "1.0.0"})
    files["index.json"] = _encoded({"schemaVersion": 2, "manifests": manifests})
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            _add(archive, name, content, 0o644)


def _layer(program: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, program.name, program.read_bytes(), 0o755)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
