"""A container image of one program; no image tool is needed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from cdmo_harness.images.archive import OCI, architecture, descriptor, digest_of, encoded, write_layout

_EPOCH = "1970-01-01T00:00:00Z"  # the same program makes the same image
_FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "var", "var/run")


def write_image(path: Path, names: list[str], program: Path) -> None:
    """Write the image with `program` as its entry point, under each of these names ("host/repository:tag")."""
    layer = _layer(program)
    config = encoded(
        {
            "created": _EPOCH,
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "Env": ["PATH=/"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    )
    manifest = encoded(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(f"{OCI}.config.v1+json", config),
            "layers": [descriptor(f"{OCI}.layer.v1.tar", layer)],
        }
    )
    entry = {
        **descriptor(f"{OCI}.manifest.v1+json", manifest),
        "platform": {"architecture": architecture(), "os": "linux"},
    }
    # containerd takes the full name from its own annotation; the OCI one holds a tag alone.
    named = ({**entry, "annotations": {"io.containerd.image.name": name}} for name in names)
    write_layout(path, {digest_of(each): each for each in (layer, config, manifest)}, *named)


def _layer(program: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        entry = tarfile.TarInfo(program.name)
        entry.mode, entry.size = 0o755, program.stat().st_size
        archive.addfile(entry, io.BytesIO(program.read_bytes()))
    return stream.getvalue()
