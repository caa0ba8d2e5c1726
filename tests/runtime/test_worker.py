"""The thread for calls that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from cdmo.errors import DriverFault
from cdmo.runtime.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("nvml")
    yield made
    made.close()


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


async def test_calls_that_wait_at_the_end_are_dropped() -> None:
    worker, gate, ran = Worker("nvml"), threading.Event(), threading.Event()
    running = asyncio.create_task(worker.run(gate.wait, 5.0))
    waiting = asyncio.create_task(worker.run(ran.set))
    await asyncio.sleep(0)
    worker.close()
    gate.set()
    await running
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not ran.is_set()
