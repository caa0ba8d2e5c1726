"""`python -m cdmo`: the same as the `cdmo` command."""

from cdmo.cli.app import main

main()
