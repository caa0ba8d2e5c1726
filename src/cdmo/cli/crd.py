"""`cdmo crd`: the CustomResourceDefinition of MigNode."""

from __future__ import annotations

import typer

from cdmo.api.schema import yaml_text


def crd() -> None:
    """Print the MigNode CustomResourceDefinition: cdmo crd | kubectl apply -f -"""
    typer.echo(yaml_text(), nl=False)
