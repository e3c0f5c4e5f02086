"""An asyncio program with interpreters for what would block its loop: tasks compute in them, side by side with whatever else the loop does.

``python examples/digests.py``
"""

import asyncio

from farexec import aio

DIGEST = """
import hashlib
for text in channel:
    channel.send(hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", 20_000).hex())
"""


async def digest(channel, todo, done):
    """Gives one worker what there is to do, until there is nothing left."""
    while todo:
        text = todo.pop()
        await channel.send(text)
        done[text] = await channel.receive()


async def tick(ticks):
    """Something else that the loop does meanwhile."""
    while True:
        await asyncio.sleep(0.001)
        ticks.append(None)


async def main():
    """Digests ten words in three interpreters."""
    words = [f"word {number}" for number in range(10)]
    done, ticks = {}, []
    async with aio.Group(["popen"] * 3) as group:
        ticking = asyncio.create_task(tick(ticks))
        todo = list(words)
        await asyncio.gather(*(digest(channel, todo, done) for channel in group.remote_exec(DIGEST)))
        ticking.cancel()
    print(f"{len(done)} digests; meanwhile the loop did {len(ticks)} other things")
    assert sorted(done) == sorted(words) and len(set(done.values())) == 10


if __name__ == "__main__":
    asyncio.run(main())
