"""Write the list of the packages in the image, as CycloneDX 1.6 JSON:  sbom.py ROOT SITE_PACKAGES OUTPUT

ROOT is the image's root folder: its dpkg database names the Debian packages, its os-release the distribution.
SITE_PACKAGES, a folder inside it, has the Python distributions. Runs in the build stage with the libraries of
sbom.txt. The same packages and SOURCE_DATE_EPOCH (seconds, from the environment) give the same bytes. A document that
breaks CycloneDX' own schema is not written: exit status 1.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from debian.deb822 import Packages
from packageurl import PackageURL

if TYPE_CHECKING:
    from cyclonedx.model.license import License

OWN_DISTRIBUTION = "cdmo"
VERSION = SchemaVersion.V1_6
_NAMESPACE = uuid.UUID("6b1d8a0e-5a53-5d43-8a3f-2f1f4a0c7d11")  # of this project's serial numbers; drawn once


def debian_components(root: Path) -> Iterator[Component]:
    """One component for each package in dpkg's database."""
    release = dict(
        line.rstrip().replace('"', "").split("=", 1) for line in (root / "etc/os-release").open() if "=" in line
    )
    with (root / "var/lib/dpkg/status").open() as status:
        for package in Packages.iter_paragraphs(status, use_apt_pkg=False):
            name, version, architecture = package["Package"], package["Version"], package["Architecture"]
            # The source package is what Debian's security tracker speaks of.
            source, _, source_version = package.get("Source", name).partition(" ")
            yield _component(
                name,
                version,
                PackageURL(
                    "deb",
                    release["ID"],
                    name,
                    version,
                    {
                        "arch": architecture,
                        "distro": f"{release['ID']}-{release['VERSION_ID']}",
                        "upstream": f"{source}@{source_version.strip('()')}" if source_version else source,
                    },
                ),
                package["Description"].splitlines()[0],
            )


def python_components(site_packages: Path) -> Iterator[Component]:
    """One component for each installed distribution."""
    for each in distributions(path=[str(site_packages)]):
        name, version = each.metadata["Name"], each.version
        yield _component(
            name, version, PackageURL("pypi", None, name, version), each.metadata["Summary"] or "", _license(each)
        )


def _component(
    name: str, version: str, purl: PackageURL, description: str, license_: License | None = None
) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        description=description or None,
        purl=purl,
        bom_ref=str(purl),
        licenses=[license_] if license_ else None,
    )


def _license(distribution: Distribution) -> License | None:
    """What its metadata say: an SPDX expression (PEP 639), else a name that fits on a line."""
    expression = distribution.metadata["License-Expression"]
    if expression:
        return LicenseFactory().make_with_expression(expression)
    named = distribution.metadata["License"] or ""
    if 0 < len(named) <= 100 and "\n" not in named:
        return LicenseFactory().make_from_string(named)
    classifiers = distribution.metadata.get_all("Classifier") or []
    licenses = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    return LicenseFactory().make_from_string(" AND ".join(sorted(licenses))) if licenses else None


def document(root: Path, site_packages: Path, made: datetime) -> str:
    """The whole document. Its subject is the product; its serial number follows from the components alone."""
    python = {each.name: each for each in python_components(site_packages)}
    subject = python.pop(OWN_DISTRIBUTION)
    subject.type = ComponentType.APPLICATION
    components = [*python.values(), *debian_components(root)]
    names = "\n".join(sorted(str(each.purl) for each in [subject, *components]))
    # Without `tools` the library would name itself, in one version with a random reference.
    bom = Bom(
        components=components,
        metadata=BomMetaData(component=subject, timestamp=made, tools=ToolRepository()),
        serial_number=uuid.uuid5(_NAMESPACE, names),
    )
    bom.register_dependency(subject, components)
    return make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=2) + "\n"


def main() -> int:
    """Entry point; returns the exit status."""
    root, site_packages, output = map(Path, sys.argv[1:4])
    made = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    text = document(root, site_packages, made)
    wrong = JsonStrictValidator(VERSION).validate_str(text)
    if wrong is not None:
        sys.stderr.write(f"error: the SBOM breaks the schema of CycloneDX: {wrong}\n")
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
