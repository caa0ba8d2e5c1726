"""Generate the gRPC modules of the kubelet's two socket APIs from the .proto files beside them.

    python tools/generate_protobuf.py            write the modules
    python tools/generate_protobuf.py --check    fail if the committed modules differ from what would be written

Needs grpcio-tools (a development dependency). Protoc makes the generated service module import its message
module as a top-level name; that one line is made relative, so that the pair works inside its package.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = (
    REPOSITORY / "src/cdmo/kubelet/_pb/podresources.proto",
    REPOSITORY / "harness/src/cdmo_harness/_pb/deviceplugin.proto",
)


def generate(source: Path, target: Path) -> list[Path]:
    """Compile one .proto file into `target`; returns the modules written."""
    arguments = ["protoc", f"-I{source.parent}", f"--python_out={target}", f"--grpc_python_out={target}", str(source)]
    if protoc.main(arguments) != 0:
        raise SystemExit(f"error: protoc refused {source}")
    messages = target / f"{source.stem}_pb2.py"
    services = target / f"{source.stem}_pb2_grpc.py"
    absolute = f"import {source.stem}_pb2 as"
    text = services.read_text()
    if absolute not in text:
        raise SystemExit(f"error: {services.name} has no line '{absolute} …': did grpcio-tools change its output?")
    services.write_text(text.replace(absolute, f"from . import {source.stem}_pb2 as", 1))
    return [messages, services]


def stale(source: Path) -> list[str]:
    """Names of the committed modules that differ from freshly generated ones."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(source, Path(scratch))
        return [made.name for made in fresh if _text(source.with_name(made.name)) != made.read_text()]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a committed module is stale")
    check = parser.parse_args().check
    behind: list[str] = []
    for source in SOURCES:
        if check:
            behind += stale(source)
        else:
            generate(source, source.parent)
    if behind:
        sys.stderr.write(f"error: stale: {', '.join(behind)}\nhint: run python tools/generate_protobuf.py\n")
    return 1 if behind else 0


if __name__ == "__main__":
    raise SystemExit(main())
