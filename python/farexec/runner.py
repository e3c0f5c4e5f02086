"""Calls a function once: what the command's `run` executes at every worker, behind mapper.py.

Each answer is as mapper.py has it: a tuple with a result, or a dict that describes what went wrong. A generator's items are results, one
by one. Runs on Python 2.7 and 3.6 or newer, without anything but the standard library.
"""


def run(channel, function, arguments):
    """`function`: as mapper.py has it. `arguments`: keyword arguments."""
    try:
        result = find(channel.gateway, function)(**arguments)  # noqa: F821
        is_generator = hasattr(result, "gi_frame")
        for item in result if is_generator else [result]:
            channel.send((item,))
    except (Exception, SystemExit):
        channel.send(channel.gateway.describe(function))
