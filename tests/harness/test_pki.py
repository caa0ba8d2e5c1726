"""Certificates are what Kubernetes expects, and private files stay private."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cdmo_harness import pki
from cdmo_harness.errors import HarnessError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def authority() -> pki.CertificateAuthority:
    return pki.CertificateAuthority("test", now=NOW)


def parsed(pair: pki.KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


def test_a_node_certificate_names_the_user_and_group_of_a_kubelet() -> None:
    subject = parsed(authority().issue_client(pki.node_subject("gpu-7"))).subject

    assert [part.value for part in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:gpu-7"]
    assert [part.value for part in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]


def test_a_node_name_too_long_for_a_certificate_is_refused_with_the_limit() -> None:
    assert parsed(authority().issue_client(pki.node_subject("n" * 52))).subject

    with pytest.raises(HarnessError, match="no certificate can name") as failure:
        authority().issue_client(pki.node_subject("n" * 53))
    assert "52 characters" in failure.value.hint


def test_issued_certificates_verify_against_their_authority_and_no_other() -> None:
    mine, other = authority(), authority()
    certificate = parsed(mine.issue_client(pki.ADMIN))

    certificate.verify_directly_issued_by(parsed(mine.pair))
    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(parsed(other.pair))


def test_a_private_key_belongs_to_its_certificate() -> None:
    pair = authority().issue_client(pki.ADMIN)
    key = serialization.load_pem_private_key(pair.private_key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(b"message", ec.ECDSA(hashes.SHA256()))

    public = parsed(pair).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_client_and_server_certificates_are_not_interchangeable() -> None:
    client = parsed(authority().issue_client(pki.SCHEDULER))
    server = parsed(authority().issue_server("api", host_names=["localhost"], addresses=["127.0.0.1"]))

    def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    assert usages(client) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert usages(server) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_only_the_authority_may_sign_certificates() -> None:
    ca = authority()
    for pair, may_sign in ((ca.pair, True), (ca.issue_client(pki.ADMIN), False)):
        extensions = parsed(pair).extensions
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is may_sign
        assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is may_sign


def test_a_certificate_is_valid_for_a_clock_that_is_a_little_behind() -> None:
    certificate = parsed(authority().issue_client(pki.ADMIN))

    assert certificate.not_valid_before_utc < NOW - timedelta(minutes=4)
    assert certificate.not_valid_after_utc == NOW + pki.LIFETIME


def test_a_kubeconfig_carries_server_authority_and_user() -> None:
    ca = authority()
    content = json.loads(pki.kubeconfig("https://127.0.0.1:1", ca.pair.certificate, pki.token_user("secret")))

    cluster = content["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == ca.pair.certificate
    assert content["users"][0]["user"] == {"token": "secret"}
    assert content["current-context"] == content["contexts"][0]["name"]


def test_private_files_are_readable_by_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    loose = tmp_path / "admin.key"
    loose.write_text("old")
    loose.chmod(0o644)
    before = os.umask(0)
    try:
        written = pki.write_pair(tmp_path, "admin", authority().pair)
    finally:
        os.umask(before)

    assert [path.name for path in written] == ["admin.crt", "admin.key"]
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert "old" not in loose.read_text()
