"""Options that several verbs share, each also an environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdmo.cli._output import Output

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        envvar="KUBECONFIG",
        help="Credentials for the API server. Default: the pod's service account, else ~/.kube/config.",
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the answer.")]
LogLevel = Annotated[str, typer.Option("--log-level", envvar="CDMO_LOG_LEVEL", help="debug, info, warning or error.")]
Listen = Annotated[
    str,
    typer.Option(
        "--listen",
        envvar="CDMO_LISTEN",
        metavar="ADDRESS:PORT",
        help="Where /livez, /readyz and /metrics are served; port 0: any. Off loopback: TLS, and tokens for metrics.",
    ),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option("--tls-certificate", help="PEM file for --listen. Default, off loopback: one made at the start."),
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="PEM file with the key of --tls-certificate.")]
LISTEN = "127.0.0.1:0"
HOST_ROOT = Path("/host")
Root = Annotated[
    Path,
    typer.Option("--root", envvar="HOST_ROOT", help="Where the host's root is: /host in the agent's pod."),
]
