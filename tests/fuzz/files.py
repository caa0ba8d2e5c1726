"""Files that people and other programs give CDMO: `plan -f`, traces, kubeconfigs, the journal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import typer

from cdmo.agent.journal import Entry, Journal
from cdmo.agent.steps import Action
from cdmo.cli._output import print_error
from cdmo.cli.plan import PlanOutput, plan
from cdmo.cli.simulate import simulate
from cdmo.errors import BadSettings, CdmoError
from cdmo.kube.connect import ConnectSettings, connect
from tests.fuzz import seeds
from tests.fuzz.mutate import Json, Seed
from tests.fuzz.target import Run, Target

OPENINGS = ("error: ", "hint: ", "note: ")


def _in_file(check: Callable[[Path], bool]) -> Callable[[Path], AbstractContextManager[Run]]:
    """Every input in the same file."""

    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        path = folder / "input"

        def run(content: bytes) -> bool:
            path.write_bytes(content)
            return check(path)

        yield run

    return prepare


def said_by(command: Callable[[], object]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a verb, as `main` runs it."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command()
        except typer.Exit as end:
            status = end.exit_code
        except CdmoError as error:
            print_error(error)
            status = 1
    return status, out.getvalue(), err.getvalue()


def _judge(status: int, out: str, err: str) -> bool:
    """An exit status and sentences, nothing that moves a cursor; said why, if it went wrong."""
    assert status in (0, 1)
    assert all(line.isprintable() for line in (*out.split("\n"), *err.split("\n")))
    told = [line for line in err.split("\n") if line]
    assert all(line.startswith(OPENINGS) for line in told), "a line that is no sentence of ours"
    assert any(line.startswith("error: ") for line in told) == bool(status)
    return status == 0


def _plan(path: Path) -> bool:
    text = path.read_bytes()
    output = (PlanOutput.TABLE, PlanOutput.JSON, PlanOutput.YAML)[len(text) % 3]
    gc.collect(0)
    status, out, err = said_by(lambda: plan([str(path)], None, output, 0.0 if len(text) % 2 else None))
    gc.unfreeze()  # `plan` freezes what it read, for it ends soon
    if output is PlanOutput.JSON:
        assert isinstance(msgspec.json.decode(out), dict)
    return _judge(status, out, err)


def _as_yaml() -> Sequence[Seed]:
    texts = [msgspec.yaml.encode(each) for each in seeds.clusters()]
    anchored = b"base: &base {a: 1}\napiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {<<: *base, b: *base}}\n"
    small = b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: main\n"
    return [texts[1], texts[3], anchored, small, small + b"---\n" + anchored, texts[0]]


_TRACE = (
    b"pod,arrival,duration,resources,priority\n"
    b"ml/train-1,0,3600,nvidia.com/mig-3g.40gb=1,0\n"
    b'ml/sweep-1,12.5,600,"nvidia.com/mig-1g.10gb=2;nvidia.com/mig-2g.20gb=1",100\n'
    b"big,13,1e3,nvidia.com/mig-7g.80gb=1,\n"
)


def _trace(path: Path) -> bool:
    none = None
    return _judge(
        *said_by(
            lambda: simulate(
                path, none, none, none, none, none, 1, 2, none, loss=False, warmup=0.2, reserve_after=none, plot=none
            )
        )
    )


def _kubeconfig(path: Path) -> bool:
    try:
        connection = connect(ConnectSettings(path), {})
    except BadSettings as error:
        assert str(error).isprintable()
        return False
    asyncio.run(connection.aclose())
    return True


def _kubeconfigs() -> list[Json | bytes]:
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "cdmo"}}],
        "clusters": [
            {"name": "test", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True}}
        ],
        "users": [{"name": "test", "user": {"token": "secret"}}],
    }
    user = {"name": "test", "user": {"username": "a", "password": "b"}}
    certified = {"name": "test", "cluster": {"server": "http://[::1]:8080", "certificate-authority-data": "bm9uZQ=="}}
    return [whole, {**whole, "users": [user]}, {**whole, "clusters": [certified]}, msgspec.yaml.encode(whole)]


def _journal(path: Path) -> bool:
    """An interrupted change is known, or known to be unknown; and written again it reads the same."""
    journal = Journal(path)
    entry = journal.read()
    assert entry is not None
    steps = tuple(each.step() for each in entry.steps)
    assert all(type(bus) is str and str(place) for bus, place in entry.being_made())
    assert all(str(each).isprintable() for each in steps)
    journal.write(steps, entry.boot_id)
    again = journal.read()
    assert again is not None and again.being_made() == entry.being_made() and again.boot_id == entry.boot_id
    return entry != Entry("")


def _journals() -> list[Json]:
    bus = "00000000:10:00.0"
    steps = [
        {"action": Action.ENABLE_MIG, "gpu": bus},
        {"action": Action.DESTROY, "gpu": bus, "profile_id": 9, "start": 0},
        {"action": Action.CREATE, "gpu": bus, "profile_id": 19, "start": 3},
    ]
    return [{"boot_id": "boot-1", "steps": steps}, {"boot_id": "boot-1"}]


TARGETS = (
    Target("plan", 10, seeds.clusters, _in_file(_plan)),
    Target("planyaml", 8, _as_yaml, _in_file(_plan)),
    Target("trace", 4, lambda: [_TRACE], _in_file(_trace)),
    Target("kubeconfig", 3, _kubeconfigs, _in_file(_kubeconfig)),
    Target("journal", 6, _journals, _in_file(_journal)),
)
