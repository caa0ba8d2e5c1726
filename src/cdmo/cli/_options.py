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
HOST_ROOT = Path("/host")
Root = Annotated[
    Path,
    typer.Option("--root", envvar="HOST_ROOT", help="Where the host's root is: /host in the agent's pod."),
]
