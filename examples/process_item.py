"""A task processor: sits at each worker, asks for tasks, and sends a result for each."""


def process_item(channel):
    import random
    import time

    channel.send("ready")
    for item in channel:
        if item is None:  # no tasks remain
            break
        time.sleep(random.random() / 10)
        channel.send(item * 10)
