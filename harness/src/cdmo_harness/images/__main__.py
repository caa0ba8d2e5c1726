"""`make image`: build CDMO's image, say where it is and what is in it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console

from cdmo.errors import CdmoError
from cdmo_harness.binaries import cache_root
from cdmo_harness.build_progress import show_progress
from cdmo_harness.images import ImageArchive, build_image, sbom_of


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="make image", description="Build CDMO's container image without a registry."
    )
    parser.add_argument("--fresh", action="store_true", help="build again, with Debian's newest packages")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="copy archive and SBOM there")
    arguments = parser.parse_args()
    try:
        with show_progress(Console(stderr=True)) as progress:
            archive = build_image(cache_root(os.environ), progress, fresh=arguments.fresh)
    except CdmoError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    if arguments.output is not None:
        archive = _copy(archive, arguments.output)
    sys.stdout.write(report(archive))
    return 0


def report(archive: Path) -> str:
    """Lines for people: where it is, its digest, sizes, packages."""
    image = ImageArchive(archive)
    components = json.loads(sbom_of(archive).read_text())["components"]
    kinds = Counter(each["purl"].partition("/")[0] for each in components)
    labels = image.config["config"]["Labels"]
    lines = {
        "archive": str(archive),
        "name": image.described["annotations"]["io.containerd.image.name"],
        "revision": labels["org.opencontainers.image.revision"],
        "digest": image.digest,
        "size": f"{image.unpacked_bytes / 1e6:.1f} MB unpacked, {image.packed_bytes / 1e6:.1f} MB to fetch",
        "packages": f"{kinds['pkg:deb']} of Debian, {kinds['pkg:pypi']} of Python: {sbom_of(archive)}",
    }
    return "".join(f"{name:<9} {value}\n" for name, value in lines.items())


def _copy(archive: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    version = ImageArchive(archive).config["config"]["Labels"]["org.opencontainers.image.version"]
    copied = folder / f"cdmo-{version}.tar"
    shutil.copy(sbom_of(archive), sbom_of(copied))
    shutil.copy(archive, copied)
    return copied


if __name__ == "__main__":
    raise SystemExit(main())
