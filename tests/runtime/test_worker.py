"""The thread for calls that block, and what happens when one never returns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from cdmo.errors import DriverFault, DriverHung
from cdmo.runtime.worker import Worker
from tests.fakes.clock import VirtualClock

SHORT = 0.05  # seconds, of calls that are to be given up
LONG = 10.0


class Bench:
    """A worker on a clock that stands still, and what it told."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.late: list[bool] = []
        self.returned = asyncio.Event()
        self.worker = Worker("nvml", self.clock, LONG, self._came_back)
        self.gate = threading.Event()

    def _came_back(self, late: bool) -> None:
        self.late.append(late)
        self.returned.set()

    async def hang(self) -> asyncio.Task[bool]:
        """A call that was given up and has not returned."""
        call = asyncio.create_task(self.worker.run_within(SHORT, self.gate.wait, LONG))
        with pytest.raises(DriverHung, match=r"has not returned for 0\.05 s"):
            await asyncio.shield(call)
        return call

    async def release(self) -> None:
        """The hung call returns."""
        self.returned.clear()
        self.gate.set()
        await asyncio.wait_for(self.returned.wait(), LONG)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.gate.set()
    made.worker.close()


@pytest.fixture
def worker(bench: Bench) -> Worker:
    return bench.worker


async def test_calls_run_in_one_named_thread_that_is_not_the_loops(worker: Worker) -> None:
    threads = {await worker.run(threading.current_thread) for _ in range(3)}
    assert len(threads) == 1
    assert threads.pop().name.startswith("nvml")
    assert threading.current_thread() is threading.main_thread()


async def test_calls_run_one_after_the_other_in_the_order_they_came(worker: Worker) -> None:
    gate, order = threading.Event(), []

    def first() -> None:
        gate.wait(5.0)
        order.append("first")

    calls = asyncio.gather(worker.run(first), worker.run(order.append, "second"))
    await asyncio.sleep(0)
    assert order == []
    assert worker.waiting == 1
    gate.set()
    await calls
    assert order == ["first", "second"]


async def test_the_loop_goes_on_while_a_call_blocks(worker: Worker) -> None:
    gate = threading.Event()
    call = asyncio.create_task(worker.run(gate.wait, 5.0))
    await asyncio.sleep(0)
    gate.set()
    assert await call is True


async def test_arguments_results_and_failures_pass_through(worker: Worker) -> None:
    def add(one: int, *, other: int) -> int:
        return one + other

    def fail() -> None:
        raise DriverFault("unknown", code=999)

    assert await worker.run(add, 1, other=2) == 3
    with pytest.raises(DriverFault, match="unknown") as raised:
        await worker.run(fail)
    assert raised.value.code == 999


async def test_a_caller_that_went_away_does_not_let_the_next_call_run_beside_its_own(bench: Bench) -> None:
    running, beside = threading.Event(), []

    def slow() -> None:
        running.set()
        bench.gate.wait(LONG)
        running.clear()

    gone = asyncio.create_task(bench.worker.run(slow))
    await asyncio.to_thread(running.wait, LONG)
    gone.cancel()
    after = asyncio.create_task(bench.worker.run(lambda: beside.append(running.is_set())))
    await asyncio.sleep(0)
    bench.gate.set()
    await after
    assert beside == [False]


async def test_calls_that_wait_at_the_end_are_dropped(bench: Bench) -> None:
    ran = threading.Event()
    running = asyncio.create_task(bench.worker.run(bench.gate.wait, 5.0))
    waiting = asyncio.create_task(bench.worker.run(ran.set))
    await asyncio.sleep(0)
    bench.worker.close()
    bench.gate.set()
    await running
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not ran.is_set()
    with pytest.raises(RuntimeError, match="is closed"):
        await bench.worker.run(ran.set)


async def test_a_call_that_does_not_return_is_given_up_with_a_hint(bench: Bench) -> None:
    with pytest.raises(DriverHung, match="a call made at 2025-06-15T15:06:40Z has not returned") as raised:
        await bench.worker.run_within(SHORT, bench.gate.wait, LONG)
    assert "nvidia-smi" in raised.value.hint
    assert raised.value.retryable
    assert bench.worker.hung_calls == 1


async def test_who_waits_behind_a_hung_call_is_told_too_and_is_never_served(bench: Bench) -> None:
    ran = threading.Event()
    first = asyncio.create_task(bench.worker.run_within(SHORT, bench.gate.wait, LONG))
    second = asyncio.create_task(bench.worker.run(ran.set))
    for each in (first, second):
        with pytest.raises(DriverHung):
            await each
    await bench.release()
    await bench.worker.run(int)
    assert not ran.is_set()


async def test_while_a_call_hangs_new_ones_fail_at_once_without_a_thread_of_their_own(bench: Bench) -> None:
    await bench.hang()
    threads, ran = threading.active_count(), threading.Event()
    for _ in range(100):
        with pytest.raises(DriverHung, match="still hangs; no other is made"):
            await bench.worker.run(ran.set)
    assert threading.active_count() == threads
    assert bench.worker.waiting == 0
    bench.clock.jump(60.0)
    assert bench.worker.hanging_for == 60.0
    await bench.release()
    assert not ran.is_set()


async def test_when_the_hung_call_returns_work_goes_on_and_it_is_told(bench: Bench) -> None:
    call = await bench.hang()
    await bench.release()
    assert bench.late == [True]
    assert bench.worker.hanging_for == 0.0
    assert await bench.worker.run(str, 7) == "7"
    assert bench.late == [True, False]
    assert isinstance(call.exception(), DriverHung)  # what it said so late is dropped


async def test_a_call_that_was_given_up_does_not_go_on_from_where_it_hung(bench: Bench) -> None:
    changed = threading.Event()

    def two_parts() -> None:
        bench.gate.wait(LONG)
        bench.worker.check_wanted()
        changed.set()

    with pytest.raises(DriverHung):
        await bench.worker.run_within(SHORT, two_parts)
    await bench.release()
    await bench.worker.run(int)
    assert not changed.is_set()


async def test_a_call_in_time_may_go_on(bench: Bench) -> None:
    await bench.worker.run(bench.worker.check_wanted)
    bench.worker.check_wanted()  # who is not in the thread has nothing to ask


async def test_a_hung_call_does_not_keep_the_process_from_ending(bench: Bench) -> None:
    before = set(threading.enumerate())
    await bench.hang()
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    bench.worker.close()
