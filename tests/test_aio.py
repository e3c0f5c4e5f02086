"""`farexec.aio`: gateways and channels on an event loop, where nothing blocks, and what is cancelled has lost nothing."""

import asyncio
import datetime
import os
import queue
import signal
import threading

import pytest

import farexec
from farexec import aio

pytestmark = pytest.mark.local("about this side")

ECHO = "for item in channel: channel.send(item)"


def run(coroutine):
    """Runs a test's coroutine, and fails if a callback of its loop did."""

    async def watched():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        result = await asyncio.wait_for(coroutine, 50)
        assert told == []
        return result

    return asyncio.run(watched())


def with_group(*specs):
    """Has a coroutine function run with a group of these specs."""

    def decorate(function):
        def test():
            async def main():
                async with aio.Group(specs or ["popen"]) as group:
                    await function(group)

            run(main())

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        return test

    return decorate


@with_group("popen", "popen")
async def test_the_names_are_those_of_the_package(group):
    gateway = group[0]
    channel = gateway.remote_exec(ECHO)
    assert isinstance(channel, aio.Channel) and channel.gateway is gateway
    assert isinstance(gateway.newchannel(), aio.Channel)
    await channel.send({"a": (1, None)})
    assert await channel.receive() == {"a": (1, None)}
    channels = group.remote_exec("channel.send(channel.receive() + 1)")
    await channels.send_each(1)
    assert await channels.receive_each(withchannel=True) == [(channels[0], 2), (channels[1], 2)]
    await channels.waitclose()
    assert (await gateway.remote_status()).numexecuting == 1


@with_group()
async def test_channels_in_items_are_of_this_kind_too(group):
    channel = group[0].remote_exec("one = channel.receive(); one.send(1); channel.send(channel.gateway.newchannel())")
    mine = group[0].newchannel()
    await channel.send(mine)
    assert await mine.receive() == 1
    assert isinstance(await channel.receive(), aio.Channel)


@with_group()
async def test_errors_are_those_of_the_package(group):
    channel = group[0].remote_exec("1 / 0")
    with pytest.raises(farexec.RemoteError, match="ZeroDivisionError"):
        await channel.receive()
    with pytest.raises(EOFError):
        await channel.receive()
    with pytest.raises(OSError):
        await channel.send(1)
    with pytest.raises(farexec.DumpError, match="object"):
        await group[0].remote_exec(ECHO).send(object())
    with pytest.raises(farexec.RemoteError, match="ValueError"):
        await group.remote_exec("raise ValueError").waitclose()
    with pytest.raises(ValueError, match="nonsense"):
        await group.makegateway("nonsense=1")
    with pytest.raises(farexec.InterpreterNotFound):
        await group.makegateway("popen//python=/nowhere/python")
    assert len(group) == 1


@with_group()
async def test_what_would_block_the_loop_says_what_to_use(group):
    channel = group[0].remote_exec(ECHO)
    for call, instead in [
        (lambda: iter(channel), "async for"),
        (lambda: next(channel), "await channel.receive()"),
        (channel.next, "await channel.receive()"),
        (channel.makefile, "await channel.send(text)"),
        (group.__enter__, "async with"),
    ]:
        with pytest.raises(TypeError) as raised:
            call()
        assert str(raised.value) == f"that would block the event loop: use `{instead}`"


@with_group()
async def test_receiving_that_is_cancelled_takes_nothing(group):
    channel = group[0].remote_exec("for number in range(2000): channel.send(number)")
    numbers, cancelled = [], 0
    while True:
        task = asyncio.create_task(channel.receive())
        await asyncio.sleep(0)
        if not task.done():
            task.cancel()
        try:
            numbers.append(await task)
        except asyncio.CancelledError:
            cancelled += 1
        except EOFError:
            break
    assert numbers == list(range(2000)) and cancelled > 0


@with_group()
async def test_a_timeout_is_the_callers_means(group):
    channel = group[0].remote_exec(ECHO)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(channel.receive(), 0.05)
    if hasattr(asyncio, "timeout"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await channel.receive()
    await channel.send(1)
    assert await channel.receive() == 1


@with_group()
async def test_sending_waits_for_room_and_lets_others_run(group):
    channel = group[0].remote_exec("channel.send(sum(len(item) for item in iter(channel.receive, None)))")
    os.kill(group[0].pid, signal.SIGSTOP)  # it takes nothing
    turns = 0

    async def send():
        nonlocal turns
        for _ in range(30):
            await channel.send(b"x" * 200_000)
            turns += 1

    sending = asyncio.create_task(send())
    while not (await asyncio.wait([sending], timeout=0.1))[0] and turns == 0:
        pass
    before = turns
    await asyncio.sleep(0.1)
    assert before == turns < 30
    cancelled = asyncio.create_task(channel.send(b"y" * 10**6))
    await asyncio.sleep(0.05)
    cancelled.cancel()
    os.kill(group[0].pid, signal.SIGCONT)
    await sending
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await channel.send(None)
    assert await channel.receive() == 30 * 200_000


@with_group("popen", "popen", "popen")
async def test_a_queue_gives_the_items_of_all_channels_and_their_ends(group):
    made = group.remote_exec("for number in range(100): channel.send(number)").make_receive_queue(endmarker=-1)
    got = [item async for channel, item in made]
    assert sorted(got) == sorted([*range(100)] * 3 + [-1] * 3)
    assert made.empty() and made.qsize() == 0
    with pytest.raises(queue.Empty):
        made.get_nowait()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(made.get(), 0.05)


@with_group("popen", "popen")
async def test_map_gives_results_in_order_and_raises_what_a_function_raised(group):
    assert [result async for result in group.map("math:factorial", range(8))] == [1, 1, 2, 6, 24, 120, 720, 5040]
    results = group.map("math:sqrt", [4, -1, 9])
    assert await results.__anext__() == 2
    with pytest.raises(farexec.RemoteError, match="math domain error"):
        await results.__anext__()
    assert await results.__anext__() == 3
    with pytest.raises(StopAsyncIteration):
        await results.__anext__()
    slow = group.map("time:sleep", [0, 60], timeout=0.3, retries=0, on_error="return")
    assert [type(result) async for result in slow] == [type(None), farexec.TimeoutError]


def dies_of_nothing(number):
    if number == 0:
        import os

        os._exit(3)
    return number


@with_group()
async def test_a_map_tells_what_each_worker_has_done(group):
    results = group.map("math:factorial", range(8))
    assert results.progress[:4] == (0, 0, 0, 8)
    assert len([result async for result in results]) == 8
    workers = results.progress.workers
    assert sum(worker.done for worker in workers) == 8
    assert all(worker.restarts == 0 and worker.work + worker.wait >= 0 for worker in workers)


@with_group()
async def test_the_worker_of_a_map_that_dies_is_replaced_by_one_of_this_kind(group):
    first = group[0]
    results = [result async for result in group.map(dies_of_nothing, [1, 0, 2], retries=0, on_error="return")]
    assert (results[0], type(results[1]), results[2]) == (1, farexec.WorkersDied, 2)
    assert isinstance(group[0], aio.Gateway) and group[0] is not first


@with_group()
async def test_a_callback_is_called_in_the_loop(group):
    called, ended = [], asyncio.Event()

    def callback(item):
        called.append((item, threading.current_thread() is threading.main_thread()))
        if item is None:
            ended.set()

    group[0].remote_exec("channel.send(1); channel.send(2)").setcallback(callback, endmarker=None)
    await ended.wait()
    assert called == [(1, True), (2, True), (None, True)]


@with_group()
async def test_calls_wait_for_each_other_only_where_they_have_to(group):
    def meet(count):
        import sys
        import threading

        sys.__dict__.setdefault("test_aio", threading.Barrier(count)).wait(20)
        return count

    gateway = group[0]
    assert await asyncio.gather(*(gateway.call(meet, count=5) for _ in range(5))) == [5] * 5
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(gateway.call("time:sleep", 60), 0.05)
    assert await gateway.call("math:sqrt", 4.0) == 2.0
    with pytest.raises(farexec.RemoteError, match="ValueError"):
        await gateway.call("builtins:int", "x")
    with pytest.raises(farexec.DumpError):
        await gateway.call("builtins:int", object())
    with pytest.raises(EOFError, match=gateway.id):
        await gateway.call("os:_exit", 3)


@with_group()
async def test_modules_come_from_here(group):
    await group[0].allow_imports("interpreters")
    assert await group[0].remote_exec("import interpreters; channel.send(len(interpreters.EXPECTED))").receive() > 5


@with_group()
async def test_codecs(group):
    types = farexec.Types()
    types.add(datetime.date, datetime.date.toordinal, datetime.date.fromordinal)
    await group[0].setcodec(types)
    channel = group[0].remote_exec(ECHO)
    await channel.send(datetime.date(2024, 2, 29))
    assert await channel.receive() == datetime.date(2024, 2, 29)
    with pytest.raises(OSError, match="codec already"):
        await channel.setcodec("pickle")


@with_group()
async def test_the_end_of_a_worker_reaches_all_that_wait(group):
    gateway = group[0]
    waiting = [asyncio.create_task(gateway.remote_exec(ECHO).receive()) for _ in range(50)]
    closed = asyncio.create_task(gateway.remote_exec(ECHO).waitclose())
    await asyncio.sleep(0)
    os.kill(gateway.pid, signal.SIGKILL)
    for task in waiting:
        with pytest.raises(EOFError, match="SIGKILL"):
            await task
    with pytest.raises(EOFError, match="SIGKILL"):
        await closed
    assert await gateway.wait() == -9


def test_a_start_that_is_cancelled_leaves_no_worker():
    async def main():
        group = aio.Group()
        task = asyncio.create_task(group.makegateway("popen//python=sh -c 'sleep 1000; :'"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(group) == 0
        await group.terminate(timeout=5)

    run(main())


def test_one_group_after_the_other_on_loops_of_their_own():
    async def main():
        async with aio.Group(["popen"]) as group:
            channel = group[0].remote_exec(ECHO)
            await channel.send(1)
            return await channel.receive()

    before = threading.active_count()
    assert [run(main()) for _ in range(3)] == [1, 1, 1]
    assert threading.active_count() == before


def test_the_package_and_asyncio_side_by_side(group):
    blocking = group.makegateway("popen").remote_exec(ECHO)

    async def main():
        async with aio.Group(["popen"]) as other:
            channel = other[0].remote_exec(ECHO)
            for number in range(100):
                await channel.send(number)
                blocking.send(number)
                assert blocking.receive() == await channel.receive() == number

    run(main())


WORKER = """
channels = channel.receive()
for turn in range(10):
    for one in channels: one.send(turn)
channel.receive()
for turn in range(10, 20):
    for one in channels: one.send(turn)
for one in channels: one.close()
"""


def test_200_gateways_and_5000_channels_of_which_half_are_cancelled_midway():
    async def collect(channel, items, has_half):
        async for item in channel:
            items.append(item)
            if item == 9:
                has_half.release()

    async def main():
        async with aio.Group(["popen"] * 200) as group:
            threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
            has_half = asyncio.Semaphore(0)
            controls = [gateway.remote_exec(WORKER) for gateway in group]
            channels = [[control.gateway.newchannel() for _ in range(25)] for control in controls]
            items = [[] for _ in range(5000)]
            tasks = [
                asyncio.create_task(collect(channel, items[index], has_half))
                for index, channel in enumerate(channel for mine in channels for channel in mine)
            ]
            for control, mine in zip(controls, channels, strict=True):
                await control.send(mine)
            for _ in range(5000):
                await has_half.acquire()
            assert all(each == list(range(10)) for each in items)
            for task in tasks[::2]:
                task.cancel()
            for control in controls:
                await control.send("go on")
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends[::2])
            assert ends[1::2] == [None] * 2500
            assert all(each == list(range(20)) for each in items[1::2])
            # What nobody waited for is still there.
            left = [channel for mine in channels for channel in mine][::2]
            for channel, each in zip(left, items[::2], strict=True):
                assert each + [item async for item in channel] == list(range(20))
            # One descriptor for the loop, and a thread for none.
            assert threading.active_count() == threads
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 2

    run(main())
