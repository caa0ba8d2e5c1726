"""The server's certificate: from files, read again when they change, or made at the start and kept in memory."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cdmo.errors import BadSettings

_VALID = timedelta(days=3650)  # nobody checks it; it is made anew at every start
_SKEW = timedelta(days=1)

logger = structlog.get_logger(__name__)


class FileCertificate:
    """A context from PEM files, which who renews them replaces while we run."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises BadSettings when they cannot be used."""
        self._certificate = certificate
        self._key = key
        self._seen = self._stamp()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """What to speak TLS with now. Files that became unusable change nothing, and are told once."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._context = self._load()
            except BadSettings as error:
                logger.error("the new certificate cannot be used, the old one stays", error=str(error))
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = _server_context()
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise BadSettings(
                f"the certificate {self._certificate} with the key {self._key} cannot be used: {error}",
                hint="both must be PEM files, the key without a password and of this certificate",
            ) from error
        return context

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stamp_of(each) for each in (self._certificate, self._key))


def _stamp_of(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def _no_password() -> str:
    """An encrypted key would else be asked about on the terminal, for ever."""
    raise ValueError("the key has a password")


def self_signed(name: str, now: float) -> Callable[[], ssl.SSLContext]:
    """A context with a fresh key and certificate, as controller-runtime makes one: it hides what is sent, and proves
    nothing. The key is never in a file that has a name. `now`: Unix time."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    moment = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _SKEW)
        .not_valid_after(moment + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    context = _server_context()
    memory = os.memfd_create("certificate", os.MFD_CLOEXEC)  # ssl takes paths alone
    try:
        os.write(memory, pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return lambda: context


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
