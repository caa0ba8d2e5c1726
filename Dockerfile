# The image of CDMO's controller and agents; docs/image.md says how to build it and why it is made this way.
#
# Everything happens in one stage on Debian, which lays out a root folder; the image is that folder and nothing else.
# Needs apt's and pip's registries, directly or as the build's own network and proxies lead there.

# The Debian release decides Python's minor version: image/debian-packages.txt names it.
ARG BASE=debian:bookworm-slim
# What src/cdmo/version.py says: the build fails where it is another.
ARG VERSION=0.1.0

FROM ${BASE} AS build
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y python3-pip python3-venv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1

WORKDIR /build
COPY image/debian-packages.txt image/root.sh image/
RUN sh image/root.sh image/debian-packages.txt /image

# pip stays outside of the environment that it fills. A package without a wheel fails the build: no compiler is here.
COPY requirements/runtime.txt requirements/
RUN python3.11 -m venv --without-pip /opt/cdmo \
 && pip --python /opt/cdmo/bin/python install --no-compile --only-binary=:all: --require-hashes \
      -r requirements/runtime.txt

# What makes the wheel and the SBOM.
COPY requirements/build.txt requirements/sbom.txt requirements/
RUN python3.11 -m venv --without-pip /opt/build \
 && pip --python /opt/build/bin/python install --only-binary=:all: --require-hashes -r requirements/build.txt \
 && pip --python /opt/build/bin/python install --only-binary=:all: --require-hashes -r requirements/sbom.txt

# Seconds since 1970 that become the time of every file; zip files cannot be older than 1980.
ARG SOURCE_DATE_EPOCH=1577836800
ARG VERSION
COPY pyproject.toml README.md LICENSE ./
COPY src src
# By name from a folder, not by path: pip would note the path. Only the product's own scripts stay in bin.
RUN pip --python /opt/build/bin/python wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && pip --python /opt/cdmo/bin/python install --no-compile --no-deps --no-index --find-links wheels cdmo==${VERSION} \
 && find /opt/cdmo/bin ! -type d ! -name cdmo ! -name 'python*' -delete \
 && rm -rf /opt/cdmo/bin/__pycache__ \
 && mkdir -p /image/opt && cp -a /opt/cdmo /image/opt/

# Bytecode of everything, made by the image's own Python: where the root is read-only nothing could be made later. It is
# never compared with its source, and one process with a fixed hash seed makes the same bytes each time. -B: what that
# process imports itself would be written first, with its source's time, and then left as it is.
RUN PYTHONHASHSEED=0 chroot /image /opt/cdmo/bin/python -B -m compileall -q -f -j 1 --invalidation-mode unchecked-hash \
      /usr/lib/python3.11 /opt/cdmo/lib

COPY image/sbom.py image/
RUN /opt/build/bin/python image/sbom.py /image /image/opt/cdmo/lib/python3.11/site-packages \
      /image/usr/share/doc/cdmo/sbom.cdx.json \
 && cp LICENSE /image/usr/share/doc/cdmo/LICENSE \
 && find /image -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} + \
 && chroot /image /opt/cdmo/bin/python -B -c 'import cdmo.agent.main, cdmo.controller.main' \
 && chroot /image /opt/cdmo/bin/python -B /opt/cdmo/bin/cdmo --version

FROM scratch
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="CDMO" \
      org.opencontainers.image.description="The open Dynamic MIG Operator: controller and agent" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
ENV PATH=/opt/cdmo/bin:/usr/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The agent needs root, and its pod says so; nothing else does.
USER 65532:65532
WORKDIR /
ENTRYPOINT ["cdmo"]
