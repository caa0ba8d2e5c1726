"""The server's certificate: made at the start, or from files that are renewed while it runs."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cdmo_harness.pki import CertificateAuthority, write_pair
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from cdmo.errors import BadSettings
from cdmo.serving.tls import FileCertificate, self_signed
from tests.serving.client import get, pages, serving, trusting

AUTHORITY = CertificateAuthority("tests", now=datetime.now(UTC))


def issued(folder: Path, name: str = "tls") -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, in files."""
    pair = AUTHORITY.issue_server("cdmo", host_names=[], addresses=["127.0.0.1"])
    return write_pair(folder, name, pair)


def served_by(context: ssl.SSLContext) -> x509.Certificate:
    """The certificate that a client of this context would see."""
    client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting().wrap_bio(client_in, client_out)
    server = context.wrap_bio(client_out, client_in, server_side=True)
    for _ in range(4):
        for each in (client, server):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found)


async def test_without_files_a_certificate_is_made_that_hides_what_is_sent() -> None:
    async with serving(pages(), context=self_signed("cdmo-agent gpu-1", time.time())) as server:
        assert (await get(server, "/livez", tls=trusting())).status == 200
        with pytest.raises((ConnectionError, IndexError)):
            await get(server, "/livez")  # plain HTTP


async def test_every_start_has_another_key() -> None:
    one, other = (served_by(self_signed("cdmo", time.time())()) for _ in range(2))
    assert one.public_key() != other.public_key()
    assert one.subject.rfc4514_string() == "CN=cdmo"


async def test_old_protocols_are_not_spoken() -> None:
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert self_signed("cdmo", time.time())().minimum_version == ssl.TLSVersion.TLSv1_2
    async with serving(pages(), context=self_signed("cdmo", time.time())) as server:
        assert (await get(server, "/livez", tls=old)).status == 200


async def test_a_given_certificate_proves_who_serves(tmp_path: Path) -> None:
    client = ssl.create_default_context(cadata=AUTHORITY.pair.certificate.decode())
    async with serving(pages(), context=FileCertificate(*issued(tmp_path)).context) as server:
        assert (await get(server, "/livez", tls=client)).status == 200


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    files = FileCertificate(*issued(tmp_path))
    before = served_by(files.context())
    assert served_by(files.context()).serial_number == before.serial_number
    issued(tmp_path)
    assert served_by(files.context()).serial_number != before.serial_number


@pytest.mark.parametrize("damage", ["gone", "garbage", "another key"])
async def test_a_bad_renewal_changes_nothing_and_is_told_once(damage: str, tmp_path: Path) -> None:
    certificate, key = issued(tmp_path)
    files = FileCertificate(certificate, key)
    before = served_by(files.context())
    if damage == "gone":
        key.unlink()
    elif damage == "garbage":
        certificate.write_text("no PEM")
    else:
        issued(tmp_path, "other")[1].replace(key)
    with capture_logs() as logs:
        assert served_by(files.context()).serial_number == before.serial_number
        files.context()
    assert len(logs) == 1
    issued(tmp_path)
    assert served_by(files.context()).serial_number != before.serial_number


@pytest.mark.parametrize("damage", ["missing", "garbage", "locked"])
def test_files_that_cannot_be_used_at_the_start_are_named(damage: str, tmp_path: Path) -> None:
    certificate, key = issued(tmp_path)
    if damage == "missing":
        certificate.unlink()
    elif damage == "garbage":
        key.write_bytes(b"\x00\xff")
    else:
        locked = serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        key.write_bytes(locked)
    with pytest.raises(BadSettings, match=str(key)) as raised:
        FileCertificate(certificate, key)
    assert "PEM" in raised.value.hint
