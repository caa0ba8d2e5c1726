"""The image of a real node's containers is what the OCI specification says, and nothing but one program."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.real_node.image import write_image

NAMES = ["example.invalid/train:1", "example.invalid/sandbox:1"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """The content of an image's archive."""
    program = tmp_path / "workload"
    program.write_bytes(b"#!program")
    archive = tmp_path / "image.tar"
    write_image(archive, NAMES, program)
    return contents(archive)


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as opened:
        return {each.name: stream.read() for each in opened if (stream := opened.extractfile(each)) is not None}


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """What a descriptor points at, which must be exactly that."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    content = files[f"blobs/{algorithm}/{digest}"]
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) == descriptor["size"]
    return content


def test_every_name_leads_to_the_program_by_digests_that_are_right(files: dict[str, bytes], tmp_path: Path) -> None:
    index = json.loads(files["index.json"])
    assert [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]] == NAMES
    for entry in index["manifests"]:
        manifest = json.loads(blob(files, entry))
        config = json.loads(blob(files, manifest["config"]))
        (layer,) = manifest["layers"]
        assert config["rootfs"]["diff_ids"] == [layer["digest"]]
        assert config["config"]["Entrypoint"] == ["/workload"]
        (tmp_path / "layer.tar").write_bytes(blob(files, layer))
        assert contents(tmp_path / "layer.tar") == {"workload": b"#!program"}


def test_the_same_program_makes_the_same_image(files: dict[str, bytes], tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    write_image(again, NAMES, tmp_path / "workload")
    assert contents(again) == files
