"""The image that the Dockerfile starts from, made of Debian's packages by mmdebstrap and kept in the cache.

It holds tools only. Nothing of it gets into CDMO's image, so that an old one does no harm.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from cdmo_harness.build_progress import BuildProgress
from cdmo_harness.images.archive import write_base
from cdmo_harness.images.contained import run_contained
from cdmo_harness.images.machine import Machine

RELEASE = "bookworm"  # as in the Dockerfile's BASE, which names an image of it

# What the Dockerfile would install first: having it already saves that in each build.
_PACKAGES = ("python3-pip", "python3-venv")


def base_image(
    cache: Path, scratch: Path, machine: Machine, *, environment: Mapping[str, str], progress: BuildProgress
) -> Path:
    """An OCI archive of the base, from `cache` or made. `scratch`: a folder for what is not finished."""
    settings = "\n".join((RELEASE, *_PACKAGES, *machine.apt_sources, *machine.apt_options))
    archive = cache / f"base-{RELEASE}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.tar"
    if archive.is_file():
        return archive
    progress.step(f"image: a base of Debian {RELEASE} (a minute, the first time)")
    sources, options, root = scratch / "sources.list", scratch / "apt.conf", scratch / "base-root.tar"
    sources.write_text("".join(f"{line}\n" for line in machine.apt_sources))
    options.write_text("".join(f"{line}\n" for line in machine.apt_options))
    run_contained(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={','.join(_PACKAGES)}"),
            f"--aptopt={options}",
            RELEASE,
            root,
            sources,
        ],
        environment=environment,
        hint="its packages come from where apt on this machine gets them: does apt-get update work?",
    )
    fresh = scratch / "base.tar"
    write_base(fresh, root)
    root.unlink()
    for old in cache.glob(f"base-{RELEASE}-*.tar"):
        old.unlink()
    shutil.move(fresh, archive)
    return archive
