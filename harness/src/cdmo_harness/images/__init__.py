"""CDMO's container image, built without a registry: `build_image` gives an archive that containerd imports.

The Dockerfile is the one that everybody builds with. What is special here is where its base comes from (Debian's
packages, by mmdebstrap) and that the machine's own settings for apt and pip hold inside the build without a trace in
the image. Needs root, and Debian's buildah and mmdebstrap.
"""

from cdmo_harness.images.archive import ImageArchive
from cdmo_harness.images.build import IMAGE_NAME, build_image, sbom_of

__all__ = ["IMAGE_NAME", "ImageArchive", "build_image", "sbom_of"]
