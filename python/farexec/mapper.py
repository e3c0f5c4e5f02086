"""Calls functions with what arrives: the far end of `map`, and of calls.

The answers go back in the order of what arrived: a tuple with the result, or a dict that describes what went wrong, as CLOSE_ERROR has it.
Runs on Python 2.7 and 3.6 or newer, without anything but the standard library.
"""


KNOWN = 1024  # functions that are kept between calls


def serve(channel, function, star, initializer):
    """`function`: what to compile, as EXECUTE has it, and to call; or a module and a name in it. `star`: items are the arguments.

    Without a function, items are calls. `initializer`: None, or a function to call first, and its arguments.
    """
    gateway = channel.gateway
    if initializer is not None:
        find(gateway, initializer[0])(*initializer[1])
    if function is None:
        return calls(channel)
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


def calls(channel):
    """Items are calls, as (function, arguments, arguments with names)."""
    gateway = channel.gateway
    send = channel.send
    known = {}
    for function, arguments, keywords in channel:
        try:
            key = function.get("source"), function.get("module"), function["call"]
            call = known.get(key)
            if call is None:
                if len(known) == KNOWN:
                    known.clear()
                call = known[key] = find(gateway, function)
            result = (call(*arguments, **keywords),)
        except (Exception, SystemExit):
            result = gateway.describe(function)
        try:
            send(result)
        except Exception:  # as above
            send(gateway.describe(function))
        del arguments, keywords, result  # what a call left is not kept until the next


def answer(channel):
    """Items are functions, as (number, function), and calls of them, as (number, arguments, arguments with names)."""
    gateway = channel.gateway
    send = channel.send
    functions = {}
    for item in channel:
        if len(item) == 2:
            functions[item[0]] = [None, item[1]]
            continue
        number, arguments, keywords = item
        function = functions[number]
        try:
            call = function[0]
            if call is None:
                call = function[0] = find(gateway, function[1])
            result = (call(*arguments, **keywords) if keywords else call(*arguments or ()),)
        except (Exception, SystemExit):
            result = gateway.describe(function[1])
        try:
            send(result)
        except Exception:  # as above
            send(gateway.describe(function[1]))
        del item, arguments, keywords, result  # what a call left is not kept until the next


def find(gateway, function):
    if "module" in function:
        import importlib

        module = str(function["module"])
        if module == "builtins" and str is bytes:
            module = "__builtin__"  # Python 2
        found = importlib.import_module(module)
        for name in function["call"].split("."):
            found = getattr(found, str(name))
        return found
    namespace = {"__name__": "__channelexec__"}
    exec(gateway.compile(function), namespace)
    return namespace[str(function["call"])]
