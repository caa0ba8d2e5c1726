"""A workload from CSV: columns pod, arrival, duration, resources and, if there is one, priority.

    pod,arrival,duration,resources,priority
    ml/train-1,0,3600,nvidia.com/mig-3g.40gb=1,0
    ml/sweep-1,12.5,600,nvidia.com/mig-1g.10gb=2;nvidia.com/mig-2g.20gb=1,100

Times are in one unit, whichever the trace has. A line is a record: fields hold no line breaks. A bad line costs
itself only, and a sentence.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdmo.errors import BadInput
from cdmo.model.gpu import PodKey
from cdmo.model.names import MIG_RESOURCE_PREFIX, is_mig_resource
from cdmo.simulation.workload import MAX_ARRIVALS, Job, Workload, arriving, simulated_key

REQUIRED = ("pod", "arrival", "duration", "resources")
PRIORITY = "priority"
MAX_TIME = 1e12
MAX_COUNT = 1_000_000
MAX_PRIORITY = 2_000_001_000  # Kubernetes' system-node-critical
MAX_LINE = 65_536  # characters
MAX_FILE = 512 * 1024 * 1024  # characters
_SHOWN = 60  # characters of a bad field that a sentence repeats


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace says, and a sentence for each line that was left out."""

    workload: Workload
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Columns:
    """The header: where each column is, and how many there are."""

    index: dict[str, int]
    count: int


class _BadField(Exception):
    """What is wrong with one field of one line."""


def lines_of(readline: Callable[[int], str], name: str) -> Iterator[str]:
    """The lines of a file, by its `readline`: of one that is too long its beginning alone, so that a file without
    line breaks never fills the memory. Raises BadInput for a file that is too long."""
    left = MAX_FILE
    while line := readline(MAX_LINE + 1):
        part = line
        while part and not part.endswith(("\n", "\r")):
            left -= len(part)
            if left < 0:
                raise BadInput(f"{name} has more than {MAX_FILE} characters", hint="simulate a part of it")
            part = readline(MAX_LINE + 1)
        left -= len(part)
        yield line


def read_trace(lines: Iterable[str], name: str) -> Trace:
    """The workload of a trace. `name` is the file's, for the sentences. Raises BadInput where nothing can be read."""
    numbered = enumerate(lines, start=1)
    columns = _header(next(numbered, (1, ""))[1], name)
    jobs: list[Job] = []
    problems: list[str] = []
    seen: dict[PodKey, int] = {}
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            job = _job(_fields(line), columns)
            if job.pod.key in seen:
                raise _BadField(f"pod {job.pod.key} is named on line {seen[job.pod.key]} already")
        except _BadField as error:
            problems.append(f"{name}, line {number}: {error}")
            continue
        if len(jobs) == MAX_ARRIVALS:
            raise BadInput(f"{name} has more than {MAX_ARRIVALS} pods", hint="simulate a part of it")
        seen[job.pod.key] = number
        jobs.append(job)
    jobs.sort(key=lambda each: (each.pod.created, each.pod.key))
    return Trace(Workload(tuple(jobs)), tuple(problems))


def _header(line: str, name: str) -> _Columns:
    try:
        titles = [each.strip().lower() for each in _fields(line.removeprefix("\ufeff"))]
    except _BadField as error:
        raise BadInput(f"{name}, line 1: {error}", hint=_header_hint()) from error
    missing = [each for each in REQUIRED if each not in titles]
    if missing:
        raise BadInput(f"{name}, line 1: the column {' and '.join(missing)} is missing", hint=_header_hint())
    repeated = [each for each in (*REQUIRED, PRIORITY) if titles.count(each) > 1]
    if repeated:
        raise BadInput(f"{name}, line 1: the column {repeated[0]} is there twice", hint=_header_hint())
    return _Columns({title: index for index, title in enumerate(titles)}, len(titles))


def _header_hint() -> str:
    return f"the first line has to name the columns: {','.join((*REQUIRED, PRIORITY))}"


def _fields(line: str) -> Sequence[str]:
    # Each line by itself, so that an unclosed quotation mark does not swallow the lines after it.
    if len(line) > MAX_LINE:
        raise _BadField(f"the line is longer than {MAX_LINE} characters")
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise _BadField(f"the line is no CSV: {error}") from error


def _job(fields: Sequence[str], columns: _Columns) -> Job:
    def text(column: str) -> str:
        if column not in columns.index:
            return ""
        if columns.index[column] >= len(fields):
            raise _BadField(f"{column}: the field is missing, the line has {len(fields)} of {columns.count} fields")
        return fields[columns.index[column]].strip()

    if len(fields) > columns.count:
        raise _BadField(f"the line has {len(fields)} fields, the first line names {columns.count}")
    key = _pod_key(text("pod"))
    arrival = _time("arrival", text("arrival"))
    duration = _time("duration", text("duration"))
    if duration <= 0:
        raise _BadField(f"duration: {_shown(text('duration'))} is not above 0")
    pod = arriving(key, arrival, _requests(text("resources")), _priority(text(PRIORITY)))
    return Job(pod, duration, pod.demand)


def _pod_key(text: str) -> PodKey:
    namespace, slash, name = text.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise _BadField(f"pod: {_shown(text)} is neither NAME nor NAMESPACE/NAME")
    return simulated_key(namespace or "default", name)


def _time(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _BadField(f"{column}: {_shown(text)} is not a number") from None
    if not math.isfinite(value) or not 0 <= value <= MAX_TIME:
        raise _BadField(f"{column}: {_shown(text)} is not between 0 and {MAX_TIME:.0f}")
    return value


def _priority(text: str) -> int:
    if not text:
        return 0
    value = _whole(text)
    if value is None or abs(value) > MAX_PRIORITY:
        raise _BadField(f"priority: {_shown(text)} is not a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return value


def _requests(text: str) -> dict[str, int]:
    requests: dict[str, int] = {}
    for part in text.split(";"):
        resource, equals, amount = (each.strip() for each in part.partition("="))
        count = _whole(amount)
        if not equals or not is_mig_resource(resource) or resource == MIG_RESOURCE_PREFIX:
            raise _BadField(f"resources: {_shown(part)} is not of the form {MIG_RESOURCE_PREFIX}PROFILE=COUNT")
        if count is None or not 1 <= count <= MAX_COUNT:
            raise _BadField(f"resources: the count of {_shown(resource)} is not a whole number from 1 to {MAX_COUNT}")
        if resource in requests:
            raise _BadField(f"resources: {_shown(resource)} is there twice")
        requests[resource] = count
    return requests


def _whole(text: str) -> int | None:
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 12:
        return None
    return int(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
