"""Calls a function with each item that arrives: what `map` executes at every worker.

The answers go back in the order of the items: a tuple with the result, or a dict that describes what went wrong, as CLOSE_ERROR has it.
Runs on Python 2.7 and 3.6 or newer, without anything but the standard library.
"""


def serve(channel, function, star):
    """`function`: what to compile, as EXECUTE has it, and to call; or a module and a name in it. `star`: items are the arguments."""
    gateway = channel.gateway
    call = find(gateway, function)
    send = channel.send
    for item in channel:
        try:
            answer = (call(*item) if star else call(item),)
        except (Exception, SystemExit):
            answer = gateway.describe(function)
        try:
            send(answer)
        except Exception:  # it cannot be encoded; or nobody is there to take it, and then this fails as well
            send(gateway.describe(function))


def find(gateway, function):
    if "module" in function:
        import importlib

        found = importlib.import_module(str(function["module"]))
        for name in function["call"].split("."):
            found = getattr(found, str(name))
        return found
    namespace = {"__name__": "__channelexec__"}
    exec(gateway.compile(function), namespace)
    return namespace[str(function["call"])]
