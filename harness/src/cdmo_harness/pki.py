"""Certificates, keys and kubeconfigs of one local cluster.

Everything is ECDSA on P-256: generating such a key takes well under a millisecond, an RSA key a tenth of a
second or more, and Kubernetes accepts both, also for signing service-account tokens (ES256).
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cdmo_harness.errors import HarnessError

# Five minutes back, so that a clock that is a little behind accepts a fresh certificate.
_CLOCK_SKEW = timedelta(minutes=5)

# Bytes that a common name may have at most (ub-common-name, RFC 5280 appendix A.1).
_LONGEST_COMMON_NAME = 64

# A local cluster lives for minutes or days; a forgotten key is worthless soon after.
LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its private key, both PEM."""

    certificate: bytes
    private_key: bytes


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a client certificate stands for: Kubernetes reads the user and its groups from it.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates
    """

    user: str
    groups: tuple[str, ...] = ()

    def name(self) -> x509.Name:
        """The X.509 name: groups are organizations, the user is the common name."""
        if not 0 < len(self.user.encode()) <= _LONGEST_COMMON_NAME:
            raise HarnessError(
                f"no certificate can name the user {self.user!r}: it has not 1 to {_LONGEST_COMMON_NAME} bytes",
                hint="choose a shorter name; a Node's may have 52 characters",
            )
        groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in self.groups]
        return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, self.user)])


ADMIN = Subject("cdmo-admin", ("system:masters",))
CONTROLLER_MANAGER = Subject("system:kube-controller-manager")
SCHEDULER = Subject("system:kube-scheduler")


def node_subject(node: str) -> Subject:
    """The identity under which a Node's kubelet speaks; the Node authorizer knows it by this form."""
    return Subject(f"system:node:{node}", ("system:nodes",))


class CertificateAuthority:
    """Signs the certificates of one cluster. Its private key stays in memory unless it is written out."""

    def __init__(self, name: str, *, now: datetime) -> None:
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = Subject(name).name()
        builder = self._builder(self._name, self._key.public_key(), authority=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pair(self) -> KeyPair:
        """The authority's own certificate and key."""
        return _pair(self._certificate, self._key)

    def issue_client(self, subject: Subject) -> KeyPair:
        """A certificate that proves to a server who its caller is."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._builder(subject.name(), key.public_key(), authority=False)
        certificate = builder.add_extension(usage, critical=False).sign(self._key, hashes.SHA256())
        return _pair(certificate, key)

    def issue_server(self, name: str, *, host_names: Sequence[str], addresses: Sequence[str]) -> KeyPair:
        """A certificate under which a server may be reached by these host names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName(
            [
                *(x509.DNSName(host_name) for host_name in host_names),
                *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
            ]
        )
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = self._builder(Subject(name).name(), key.public_key(), authority=False)
        builder = builder.add_extension(alternatives, critical=False).add_extension(usage, critical=False)
        return _pair(builder.sign(self._key, hashes.SHA256()), key)

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, authority: bool
    ) -> x509.CertificateBuilder:
        key_usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _CLOCK_SKEW)
            .not_valid_after(self._now + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(key_usage, critical=True)
        )


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key pair of service-account tokens, PEM: the private half signs, the public half checks."""

    private_key: bytes
    public_key: bytes

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key pair."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(_private_pem(key), public)


def kubeconfig(server: str, authority: bytes, user: Mapping[str, str]) -> str:
    """A kubeconfig with one cluster, one user and one context, as JSON (which every YAML reader takes).

    `user` is the user entry's content: see `certificate_user` and `token_user`.
    """
    cluster = {"server": server, "certificate-authority-data": _base64(authority)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "user", "user": dict(user)}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
            "current-context": "local",
        },
        indent=1,
    )


def certificate_user(pair: KeyPair) -> dict[str, str]:
    """A kubeconfig user that proves itself by a client certificate."""
    return {
        "client-certificate-data": _base64(pair.certificate),
        "client-key-data": _base64(pair.private_key),
    }


def token_user(token: str) -> dict[str, str]:
    """A kubeconfig user that proves itself by a bearer token."""
    return {"token": token}


def write_private(path: Path, content: bytes | str) -> Path:
    """Write a file that only its owner can read (0600 from its first moment on); an old one is replaced."""
    data = content.encode() if isinstance(content, str) else content
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    return fresh.replace(path)


def write_pair(folder: Path, name: str, pair: KeyPair) -> tuple[Path, Path]:
    """Write `<name>.crt` and `<name>.key` into the folder; returns both paths in this order."""
    certificate = write_private(folder / f"{name}.crt", pair.certificate)
    return certificate, write_private(folder / f"{name}.key", pair.private_key)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
