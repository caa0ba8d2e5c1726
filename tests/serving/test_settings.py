"""Where to serve, as a person gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdmo.errors import BadSettings
from cdmo.serving.settings import LOOPBACK, serving_settings

PEM = Path("some.pem")


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("0.0.0.0:8443", "0.0.0.0", 8443),
        ("[::1]:9", "::1", 9),
        ("[::]:65535", "::", 65535),
    ],
)
def test_an_address_with_a_port(given: str, host: str, port: int) -> None:
    settings = serving_settings(given, None, None)
    assert (settings.host, settings.port) == (host, port)


@pytest.mark.parametrize(
    "given", ["", ":8080", "8080", "127.0.0.1", "localhost:80", "1.2.3:80", "127.0.0.1:65536", "127.0.0.1:-1",
              "127.0.0.1:８０", "127.0.0.1:80x", "[::1:80", "x" * 5000]
)  # fmt: skip
def test_anything_else_is_refused_with_examples(given: str) -> None:
    with pytest.raises(BadSettings) as raised:
        serving_settings(given, None, None)
    assert len(str(raised.value)) < 200
    assert "0.0.0.0:8443" in raised.value.hint


@pytest.mark.parametrize(
    ("given", "tls"),
    [
        ("127.9.9.9:0", False),
        ("[::1]:0", False),
        ("0.0.0.0:1", True),
        ("10.1.2.3:1", True),
        ("[::]:1", True),
    ],
)
def test_off_loopback_there_is_always_tls(given: str, tls: bool) -> None:
    settings = serving_settings(given, None, None)
    assert (settings.tls, settings.loopback) == (tls, not tls)


def test_on_loopback_a_certificate_means_tls() -> None:
    assert serving_settings("127.0.0.1:0", PEM, PEM).tls
    assert not LOOPBACK.tls


@pytest.mark.parametrize(("certificate", "key"), [(PEM, None), (None, PEM)])
def test_half_a_certificate_is_refused(certificate: Path | None, key: Path | None) -> None:
    with pytest.raises(BadSettings, match="only one of certificate and key"):
        serving_settings("127.0.0.1:0", certificate, key)
