"""Building the image: the Dockerfile, buildah, and a cache by content."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from cdmo_harness.build_progress import BuildProgress
from cdmo_harness.file_lock import file_lock
from cdmo_harness.images.archive import ImageArchive, write_layout
from cdmo_harness.images.base import RELEASE, base_image
from cdmo_harness.images.contained import require, run_contained
from cdmo_harness.images.inputs import Revision, content_digest, copy_inputs, product_version, revision
from cdmo_harness.images.machine import this_machine

__all__ = ["IMAGE_NAME", "build_image", "sbom_of"]

REPOSITORY = Path(__file__).resolve().parents[4]
IMAGE_NAME = "cdmo"  # the default of image.repository in the chart's values
_SBOM = "usr/share/doc/cdmo/sbom.cdx.json"
_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: RUN (.+)")
_KEPT = 3  # archives that the cache holds; each is some 45 MB


def build_image(
    cache: Path,
    progress: BuildProgress,
    *,
    repository: Path = REPOSITORY,
    environment: Mapping[str, str] = os.environ,
    fresh: bool = False,
) -> Path:
    """An OCI archive of the image of this checkout, named `cdmo:<version>` for who imports it.

    `cache`: the folder of `cdmo_harness.binaries.cache_root`. The same sources are built once; `fresh` builds them
    again, with what Debian's packages are by now. Raises ImageNotBuilt.
    """
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / "scratch"
    with file_lock(
        folder / ".lock", on_wait=lambda: progress.step("waiting for another process that builds an image")
    ):
        try:
            # What a killed run left is not worth keeping.
            shutil.rmtree(scratch, ignore_errors=True)
            context = scratch / "context"
            copy_inputs(repository, context)
            made_of = revision(repository)
            version = product_version(context)
            # This file is what decides how buildah is called.
            key = content_digest(context, made_of.name, str(made_of.seconds), Path(__file__).read_text())
            archive = folder / f"{IMAGE_NAME}-{version}-{key}.tar"
            if fresh or not archive.is_file():
                require("buildah", "mmdebstrap")
                layout = _build(folder, scratch, made_of, version, environment=environment, progress=progress)
                _publish(layout, archive, scratch, version)
            archive.touch()
            _forget_old(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return archive


def sbom_of(archive: Path) -> Path:
    """The list of the image's packages, which lies beside its archive: CycloneDX, JSON."""
    return archive.with_suffix(".sbom.cdx.json")


def _build(
    folder: Path,
    scratch: Path,
    made_of: Revision,
    version: str,
    *,
    environment: Mapping[str, str],
    progress: BuildProgress,
) -> Path:
    """Run the Dockerfile; returns the folder of an OCI layout."""
    temporary = scratch / "tmp"
    temporary.mkdir()
    surroundings = {**environment, "TMPDIR": str(temporary), "BUILDAH_ISOLATION": "chroot"}
    machine = this_machine(RELEASE, environment)
    base = base_image(folder, scratch, machine, environment=surroundings, progress=progress)
    pip_conf = scratch / "pip.conf"
    pip_conf.touch(mode=0o600)  # the address of an index may contain a password
    pip_conf.write_text(machine.pip_conf())

    def hear(line: str) -> None:
        if found := _STEP.match(line):
            progress.step(f"image: {found[1][:90]}")

    # A store of its own, thrown away: there is nothing to tidy up in the machine's. vfs works on every file system.
    store: list[str | Path] = ["--root", scratch / "store", "--runroot", scratch / "run", "--storage-driver", "vfs"]
    arguments = {
        "BASE": f"oci-archive:{base}",
        "VERSION": version,
        "REVISION": made_of.name,
        "SOURCE_DATE_EPOCH": str(made_of.seconds),
    }
    run_contained(
        [
            *("buildah", *store, "build", "--layers=false", "--no-cache", "--format=oci", "--identity-label=false"),
            # Of the image, and of every file in its layers.
            f"--timestamp={made_of.seconds}",
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--volume={volume}" for volume in machine.volumes(pip_conf)),
            f"--tag={IMAGE_NAME}",
            scratch / "context",
        ],
        environment=surroundings,
        on_line=hear,
        hint="its packages come from where apt and pip on this machine get them: do apt-get update and pip download "
        "work, and does the disk have 2 GB left?",
    )
    progress.step("image: packing")
    layout = scratch / "layout"
    run_contained(["buildah", *store, "push", "--quiet", IMAGE_NAME, f"oci:{layout}"], environment=surroundings)
    return layout


def _publish(layout: Path, archive: Path, scratch: Path, version: str) -> None:
    """Write the archive and the SBOM beside it; the archive, which tells that both are there, last."""
    image = ImageArchive(layout)
    # containerd, k3s and docker take the full name from containerd's annotation; the OCI one holds a tag alone.
    names = {
        "io.containerd.image.name": f"docker.io/library/{IMAGE_NAME}:{version}",
        "org.opencontainers.image.ref.name": version,
    }
    blobs: dict[str, Path | bytes] = {f"sha256:{path.name}": path for path in (layout / "blobs" / "sha256").iterdir()}
    fresh = scratch / "image.tar"
    write_layout(fresh, blobs, {**image.described, "annotations": names})
    list_of_packages = scratch / "sbom.json"
    list_of_packages.write_bytes(image.read(_SBOM))
    list_of_packages.replace(sbom_of(archive))
    fresh.replace(archive)


def _forget_old(folder: Path) -> None:
    """Keep the archives that were asked for last."""
    archives = sorted(folder.glob(f"{IMAGE_NAME}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for archive in archives[_KEPT:]:
        archive.unlink()
        sbom_of(archive).unlink(missing_ok=True)
