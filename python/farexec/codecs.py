"""Codecs: how objects that cannot be sent by themselves become items, and items become such objects again.

At both ends: a coordinator imports this, and has a worker execute it when a gateway or a channel is given a codec. Runs on Python
2.7 and 3.6 or newer, without anything but the standard library, but for the codec that is about NumPy.
"""

import re

TYPE, TUPLE = "\0type", "\0tuple"  # what the tuples begin with that stand for objects, and for tuples that begin so themselves


class Codec(object):
    """What encodes and decodes. Both ends have one; they are made of the same `content`."""

    DumpError, LoadError = TypeError, ValueError  # a coordinator has better ones

    kind = None  # the key of KINDS
    content = None  # plain data: what the far end's codec is made of

    def __init__(self, content=None):
        self.content = content


class Pickle(Codec):
    """Whatever pickle can carry. Who decodes runs what the sender chose: only for far ends that are trusted as this one is."""

    kind = "pickle"

    def encode(self, item):
        import pickle

        try:
            return pickle.dumps(item, 2)  # which every interpreter reads
        except Exception as error:
            raise self.DumpError("pickle cannot encode it: %s: %s" % (type(error).__name__, error))

    def decode(self, item):
        import pickle
        import sys

        # A str of Python 2 may arrive as text.
        data = item if isinstance(item, bytes) else item.encode("latin-1")
        try:
            return pickle.loads(data) if sys.version_info[0] == 2 else pickle.loads(data, encoding="latin-1")
        except Exception as error:
            raise self.LoadError("pickle cannot decode it: %s: %s" % (type(error).__name__, error))


class Parts(Codec):
    """What finds some objects anywhere in items, and sends a tuple in the place of each. Other tuples that look so get a mark in front."""

    def _stands_for(self, parts):
        """Whether a tuple that is not marked stands for an object."""
        raise NotImplementedError

    def _encode_object(self, item):
        """Returns the tuple for an object; what cannot be encoded is returned as it is (it may be a channel), or refused."""
        raise NotImplementedError

    def _decode_object(self, parts):
        """Returns the object that a tuple stands for."""
        raise NotImplementedError

    def encode(self, item):
        try:
            return self._encode(item)
        except RuntimeError as error:  # a RecursionError
            raise self.DumpError("it is nested too deep: %s" % error)

    def _encode(self, item):
        cls = type(item)
        if cls in PLAIN:
            return item
        if cls is list:
            return [self._encode(part) for part in item]
        if cls is dict:
            return dict((self._encode(key), self._encode(value)) for key, value in item.items())
        if cls is tuple:
            parts = tuple(self._encode(part) for part in item)
            return (TUPLE,) + parts if is_marked(parts) or self._stands_for(parts) else parts
        if cls in (set, frozenset):
            return cls(self._encode(part) for part in item)
        return self._encode_object(item)

    def decode(self, item):
        cls = type(item)
        if cls is list:
            return [self.decode(part) for part in item]
        if cls is dict:
            return dict((self.decode(key), self.decode(value)) for key, value in item.items())
        if cls is tuple:
            if is_marked(item):
                item = item[1:]
            elif self._stands_for(item):
                return self._decode_object(item)
            return tuple(self.decode(part) for part in item)
        if cls in (set, frozenset):
            return cls(self.decode(part) for part in item)
        return item


class Types(Parts):
    """Objects of the types that were added, anywhere in items. Decoding calls nothing but what was added.

    >>> import datetime, decimal, farexec
    >>> types = farexec.Types()
    >>> types.add(decimal.Decimal)
    >>> types.add(datetime.date, datetime.date.isoformat, datetime.date.fromisoformat)
    >>> types.decode(types.encode({"price": [decimal.Decimal("1.50")], "day": datetime.date(2024, 2, 29)}))
    {'price': [Decimal('1.50')], 'day': datetime.date(2024, 2, 29)}
    """

    kind = "types"

    def __init__(self, content=None):
        Codec.__init__(self, [])
        self._by_type = {}
        self._decoders = []
        for names in content or ():
            self._add([str(name) for name in names])

    def add(self, cls, encode=str, decode=None):
        """Adds a type, whose subclasses it then stands for too.

        :param cls: The type. It, `encode` and `decode` have to be importable by their names, at the far end as well.
        :param encode: Is called with an object, and returns something that can be sent.
        :param decode: Is called with that, and returns the object; the type itself if None.
        :raises ValueError: One of them cannot be found by its name.
        """
        self._add([name_of(thing) for thing in (cls, encode, cls if decode is None else decode)])

    def _add(self, names):
        cls, encode, decode = [find(name) for name in names]
        if cls is not None and encode is not None:
            self._by_type[cls] = (len(self.content), encode)
        self._decoders.append(decode)
        self.content.append(names)

    def _stands_for(self, parts):
        return bool(parts) and is_text(parts[0]) and parts[0] == TYPE

    def _encode_object(self, item):
        for known in type(item).__mro__:
            if known in self._by_type:
                number, encode = self._by_type[known]
                return (TYPE, number, self._encode(encode(item)))
        return item

    def _decode_object(self, parts):
        number, value = parts[1], self.decode(parts[2])
        try:
            decode = self._decoders[number]
        except (IndexError, TypeError):
            raise self.LoadError("the far end sent an object of a type that was not added")
        if decode is None:
            raise self.LoadError("there is no %s here" % self.content[number][2])
        return decode(value)


class Arrays(Parts):
    """Arrays of NumPy, anywhere in items, in the form that section 10 of docs/PROTOCOL.md describes: one copy of the memory each."""

    kind = "numpy"

    def __init__(self, content=None):
        Codec.__init__(self)
        if str is bytes:
            raise ImportError('the codec "numpy" needs Python 3 at both ends')
        try:
            import numpy
        except ImportError as error:
            raise ImportError('the codec "numpy" needs NumPy at both ends: %s' % error)
        self._numpy = numpy

    def _stands_for(self, parts):
        if len(parts) != 3:
            return False
        name, shape, data = parts
        return is_text(name) and ELEMENTS.match(name) is not None and type(shape) in (tuple, list) and type(data) is bytes

    def _encode_object(self, item):
        if type(item) is self._numpy.ndarray:
            if not ELEMENTS.match(item.dtype.str):
                raise self.DumpError("an array of %s cannot be sent: its memory means nothing elsewhere" % item.dtype)
            return (item.dtype.str, item.shape, item.tobytes())
        if isinstance(item, self._numpy.ndarray):
            raise self.DumpError("a %s is more than its elements, which numpy.asarray() gives" % type(item).__name__)
        if isinstance(item, self._numpy.generic):
            raise self.DumpError("a numpy.%s is no array: item() makes a number of it, and numpy.asarray() an array" % type(item).__name__)
        return item

    def _decode_object(self, parts):
        name, shape, data = parts
        try:
            elements, size = self._numpy.dtype(name), 1
            for length in shape:
                size *= length
            if size * elements.itemsize != len(data):
                raise ValueError("%d bytes are not %r elements" % (len(data), size))
            return self._numpy.ndarray(tuple(shape), elements, data)
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            raise self.LoadError("there is no array of %s with the shape %r: %s" % (name, shape, error))

    def decode(self, item):
        try:
            return Parts.decode(self, item)
        except TypeError as error:  # a key that is an array
            raise self.LoadError(str(error))


# Those types of elements whose memory is the same everywhere, as NumPy names them; no objects, records or long doubles.
ELEMENTS = re.compile(r"(\|[biu]1|[<>]([iu][248]|f[248]|c8|c16|[mM]8(\[[0-9A-Za-z]+\])?|U[1-9][0-9]{0,8})|\|S[1-9][0-9]{0,8})\Z")


def is_marked(parts):
    return bool(parts) and is_text(parts[0]) and parts[0] == TUPLE


def is_text(item):
    return isinstance(item, (str, type(u"")))


PLAIN = frozenset([type(None), bool, int, float, complex, str, bytes, type(u""), type(2**64)])


class Own(Codec):
    """The functions `encode` and `decode` of a module, which the far end is sent as text."""

    kind = "own"

    def __init__(self, content):
        Codec.__init__(self, content)
        namespace = {"__name__": "farexec_codec"}
        exec(compile(content["text"], content["file"], "exec"), namespace)
        self.encode, self.decode = namespace["encode"], namespace["decode"]


KINDS = {"pickle": Pickle, "types": Types, "numpy": Arrays, "own": Own}


def name_of(thing):
    """Returns the name that something can be imported by."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", getattr(thing, "__name__", None))
    owner = getattr(thing, "__self__", None)
    if isinstance(owner, type):  # a class method, which may be a built-in one
        module, name = owner.__module__, "%s.%s" % (getattr(owner, "__qualname__", owner.__name__), thing.__name__)
    elif module is None and hasattr(thing, "__objclass__"):  # a method of a built-in type
        module = thing.__objclass__.__module__
    text = "%s:%s" % (module, name)
    if not module or not name or find(text) != thing:
        raise ValueError("%r cannot be found by its name, %s: the far end could not import it" % (thing, text))
    return text


def find(name):
    """Returns what can be imported by a name of the form ``module:name.in.it``; None if it cannot."""
    import importlib

    module, _, path = name.partition(":")
    if module == "builtins" and str is bytes:
        module = "__builtin__"  # Python 2
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception:
        return None
    return found


def coded(base):
    """Returns the worker's kind of channel whose items go through the codec of their stream."""

    class CodedChannel(base):
        def send(self, item, timeout=None):
            base.send(self, self._stream.codec.encode(item), timeout)

        def receive(self, timeout=None):
            return self._stream.codec.decode(base.receive(self, timeout))

        def setcallback(self, callback, *endmarker, **named):
            codec = self._stream.codec
            marker = endmarker[0] if endmarker else named.get("endmarker", codec)

            def call(item):
                callback(item if item is marker else codec.decode(item))

            base.setcallback(self, call, *endmarker, **named)

    CodedChannel.__name__ = base.__name__
    return CodedChannel


def install(channel, kind, content, target):
    """Executed at a worker: gives a codec to the channel of number `target`, or to all channels made from now on."""
    channel.gateway.give_codec(KINDS[kind](content), coded, target)
