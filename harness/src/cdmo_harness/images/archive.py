"""Image archives: an OCI layout (https://github.com/opencontainers/image-spec) in a tar file, read and written."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

OCI = "application/vnd.oci.image"  # what media types begin with
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CHUNK = 1 << 20  # bytes


def write_layout(path: Path, blobs: Mapping[str, Path | bytes], *manifests: Mapping[str, Any]) -> None:
    """Write an archive of these blobs, by digest ("sha256:…"), and of manifests, by their descriptors.

    The same arguments give the same bytes.
    """
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", encoded({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", encoded({"schemaVersion": 2, "manifests": [dict(each) for each in manifests]}))
        for digest in sorted(blobs):
            _add(archive, f"blobs/{digest.replace(':', '/')}", blobs[digest])


def write_base(path: Path, root: Path) -> None:
    """Write the image whose only layer is the tar file `root`."""
    layer = "sha256:" + file_digest(root)
    config = encoded(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        }
    )
    manifest = encoded(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(f"{OCI}.config.v1+json", config),
            "layers": [{"mediaType": f"{OCI}.layer.v1.tar", "digest": layer, "size": root.stat().st_size}],
        }
    )
    described = descriptor(f"{OCI}.manifest.v1+json", manifest)
    blobs: dict[str, Path | bytes] = {layer: root, digest_of(config): config, digest_of(manifest): manifest}
    write_layout(path, blobs, described)


@dataclass(frozen=True)
class ImageArchive:
    """An image in an archive, or in the folder that an OCI layout is before it is one."""

    path: Path

    @cached_property
    def digest(self) -> str:
        """The image's digest ("sha256:…"): that of its manifest, as a registry and a kubelet would name it."""
        return str(self.described["digest"])

    @cached_property
    def described(self) -> dict[str, Any]:
        """The index's entry of the one manifest."""
        (entry,) = self._json("index.json")["manifests"]
        assert isinstance(entry, dict)
        return entry

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Names the configuration and the layers."""
        return self._json(_blob(self.digest))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The image's configuration: user, entry point, variables, labels, history."""
        return self._json(_blob(self.manifest["config"]["digest"]))

    @property
    def packed_bytes(self) -> int:
        """What a node fetches."""
        return sum(int(layer["size"]) for layer in self.manifest["layers"])

    @cached_property
    def unpacked_bytes(self) -> int:
        """The sum of the sizes of all files in all layers."""
        return sum(entry.size for _, entry in self.entries())

    def entries(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Every entry of every layer, with the layer it can be read from until the next one is asked for."""
        for layer in self.manifest["layers"]:
            with self._open(_blob(layer["digest"])) as stream, tarfile.open(fileobj=stream, mode="r|*") as files:
                for entry in files:
                    yield files, entry

    def read(self, name: str) -> bytes:
        """The content of one file of the image, by its path without a leading slash; KeyError if it has none."""
        for files, entry in self.entries():
            if entry.name.removeprefix("./") == name and (stream := files.extractfile(entry)):
                return stream.read()
        raise KeyError(name)

    def _json(self, name: str) -> dict[str, Any]:
        with self._open(name) as stream:
            value = json.load(stream)
        assert isinstance(value, dict)
        return value

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if self.path.is_dir():
            with (self.path / name).open("rb") as stream:
                yield stream
            return
        with tarfile.open(self.path) as archive:
            member = archive.extractfile(name)
            assert member is not None
            yield member


def architecture() -> str:
    """This machine's, as images name it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """How a blob is named by others."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def digest_of(content: bytes) -> str:
    """As "sha256:…"."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def encoded(value: Mapping[str, Any]) -> bytes:
    """JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True).encode()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(archive: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        return
    entry.size = content.stat().st_size
    with content.open("rb") as stream:
        archive.addfile(entry, stream)
