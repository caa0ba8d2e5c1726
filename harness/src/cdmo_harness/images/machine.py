"""Where this machine's apt and pip get their packages, so that a build inside a container gets them there too.

Asked of the programs themselves, for only they know how their files and variables add up. The answers go into files
of the build's own folder: none of them may end in the repository or the image.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cdmo_harness.errors import ImageNotBuilt

# What decides whether a registry can be reached and believed; the rest of apt's settings is about other things.
_APT_OPTION = re.compile(r'Acquire::(?:https?::|Check-|Retries|Force|Max-FutureTime).* ".+";')
_PIP_OPTIONS = frozenset(
    {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries"}
)
_CERTIFICATES = ("/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")
_PIP_CERTIFICATES = "/etc/pip-certificates.crt"  # inside the build

# Fields of apt's indexes, in the order in which they make a line of sources.list.
_INDEX_FORMAT = "$(ORIGIN)|$(CODENAME)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)"


@dataclass(frozen=True, slots=True)
class Machine:
    """The settings that a build has to share."""

    apt_sources: tuple[str, ...]
    """Lines for sources.list."""
    apt_options: tuple[str, ...]
    """Lines for apt.conf."""
    pip_options: Mapping[str, str]
    pip_certificates: Path | None
    """A file of certificates to believe, if pip is told one."""

    def pip_conf(self) -> str:
        """The text of a pip.conf for inside the build."""
        options = dict(self.pip_options)
        if self.pip_certificates is not None:
            options["cert"] = _PIP_CERTIFICATES
        # A value of several lines, such as extra-index-url may have, goes on in indented lines.
        lines = [f"{name} = {value.strip().replace(chr(10), chr(10) + '  ')}" for name, value in options.items()]
        return "\n".join(["[global]", *lines]) + "\n"

    def volumes(self, pip_conf: Path) -> list[str]:
        """What a build mounts, as HOST:INSIDE:ro; `pip_conf` is where the text of `pip_conf()` was written."""
        mounts = [f"{folder}:{folder}:ro" for folder in _CERTIFICATES if Path(folder).is_dir()]
        mounts.append(f"{pip_conf}:/etc/pip.conf:ro")
        if self.pip_certificates is not None:
            mounts.append(f"{self.pip_certificates.resolve()}:{_PIP_CERTIFICATES}:ro")
        return mounts


def this_machine(release: str, environment: Mapping[str, str]) -> Machine:
    """Ask apt and pip. `release`: the code name of the Debian release wanted. Raises ImageNotBuilt."""
    indexes = _said(["apt-get", "indextargets", "--format", _INDEX_FORMAT, "Created-By: Packages"], environment)
    sources = debian_sources(indexes, release)
    if not sources:
        raise ImageNotBuilt(
            f"apt on this machine knows no packages of Debian {release}, of which the image is made",
            hint=f"run apt-get update; on a machine that is not Debian {release} build the Dockerfile with docker or "
            "buildah (docs/image.md)",
        )
    options = [line for line in _said(["apt-config", "dump"], environment).splitlines() if _APT_OPTION.match(line)]
    pip = pip_settings(_said([sys.executable, "-m", "pip", "config", "list"], environment))
    certificates = pip.get("cert")
    return Machine(
        sources,
        tuple(options),
        {name: value for name, value in pip.items() if name in _PIP_OPTIONS},
        Path(certificates) if certificates else None,
    )


def debian_sources(indexes: str, release: str) -> tuple[str, ...]:
    """The lines of sources.list among the lines of `_INDEX_FORMAT`: Debian's own, of this release and its updates."""
    found = []
    for line in indexes.splitlines():
        origin, codename, source = line.split("|", 2)
        if origin == "Debian" and codename.partition("-")[0] == release:
            found.append(source)
    return tuple(dict.fromkeys(found))


def pip_settings(listing: str) -> dict[str, str]:
    """What `pip config list` prints, by option; a variable of the environment goes before a file."""
    pairs = [line.partition("=") for line in listing.splitlines() if "=" in line]
    values = [(name.rpartition("."), str(ast.literal_eval(value))) for name, _, value in pairs]
    # `install.` is about the command that the build uses, and goes before `global.`.
    order = {"global": 0, "install": 1, ":env:": 2}
    ranked = sorted((order[scope], option, value) for (scope, _, option), value in values if scope in order)
    return {option: value for _, option, value in ranked}


def _said(command: list[str], environment: Mapping[str, str]) -> str:
    # Untranslated, as the patterns above expect it.
    surroundings = {**environment, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60, env=surroundings
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageNotBuilt(f"{' '.join(command[:2])} cannot be asked for its settings: {error}") from error
