"""Makes and checks the golden vectors of both encodings.

    python make.py          writes vectors.txt: what execnet 2.1.2 and CPython's pickle write, and what they read
    python make.py check    reads written.txt, which farexec has written, with execnet and pickle

Run it with an interpreter that has execnet. A line of vectors.txt is: who wrote it, a name, the bytes, and what they stand
for as Python prints it (for long ones: its length and Adler-32). Bytes are in hexadecimal; `(61*1000)` is a thousand times 61.
"""

import collections
import io
import os
import pickle
import re
import struct
import sys
import zlib

import execnet

HERE = os.path.dirname(os.path.abspath(__file__))

OBJECTS = {
    "none": None,
    "true": True,
    "false": False,
    "int_0": 0,
    "int_255": 255,
    "int_256": 256,
    "int_65535": 65535,
    "int_65536": 65536,
    "int_minus_1": -1,
    "int32_max": 2**31 - 1,
    "int32_min": -(2**31),
    "int32_max_and_1": 2**31,
    "int64_max": 2**63 - 1,
    "int64_max_and_1": 2**63,
    "int_huge": 3**400,
    "int_very_huge": 7**2000,
    "float_0": 0.0,
    "float_minus_0": -0.0,
    "float_half": 0.5,
    "float_tiny": 5e-324,
    "float_large": 1.7976931348623157e308,
    "float_inf": float("inf"),
    "float_minus_inf": float("-inf"),
    "float_nan": float("nan"),
    "str_empty": "",
    "str_ascii": "hello",
    "str_umlaut": "grüße",
    "str_beyond_bmp": "a🦀b",
    "str_nul": "a\0b",
    "str_255": "x" * 255,
    "str_256": "x" * 256,
    "str_70000": "y" * 70000,
    "bytes_empty": b"",
    "bytes_all": bytes(range(256)),
    "bytes_255": b"z" * 255,
    "bytes_256": b"z" * 256,
    "bytes_70000": b"z" * 70000,
    "tuple_0": (),
    "tuple_1": (1,),
    "tuple_2": (1, 2),
    "tuple_3": (1, 2, 3),
    "tuple_4": (1, 2, 3, 4),
    "tuple_nested": ((), ((),), [(), []]),
    "tuple_empty_list_then_tuple": ([], (1, 2, 3, 4)),
    "tuple_empty_dict_then_frozenset": ({}, frozenset([1])),
    "tuple_empty_set_then_tuple": (set(), (1, 2, 3, 4), {1}),
    "list_0": [],
    "list_1": [1],
    "list_mixed": [None, True, 1, 2.5, "s", b"b", (1,), [2], {3: 4}, {5}, frozenset([6])],
    "list_nested": [[[[]]], [[], []]],
    "list_1000": list(range(1000)),
    "list_1001": list(range(1001)),
    "list_1500": [[n] for n in range(1500)],
    "list_of_large_bytes": [b"a" * 70000, 1, b"b" * 70000, []],
    "dict_0": {},
    "dict_1": {"a": 1},
    "dict_keys": {1: "int", 2.5: "float", "s": "str", b"b": "bytes", None: "none", (1, (2,)): "tuple", frozenset([1]): "set"},
    "dict_nested": {"a": {"b": {"c": [1, {"d": ()}]}}},
    "dict_1500": {n: [str(n)] for n in range(1500)},
    "dicts_in_tuple": ({1: 2}, {3: {4: 5}}, {}),
    "set_0": set(),
    "set_1": {1},
    "set_of_tuples": {(1, 2)},
    "set_1500": set(range(1500)),
    "frozenset_0": frozenset(),
    "frozenset_1": frozenset(["x"]),
    "frozenset_nested": frozenset([frozenset([frozenset()])]),
    "frozenset_1500": frozenset(range(1500)),
    "deep": None,
    "records": [{"id": n, "name": f"name {n}", "score": n / 7, "tags": ("a", "b")} for n in range(50)],
}
for _ in range(60):
    OBJECTS["deep"] = [(OBJECTS["deep"],)]

# The message encoding has no place for these.
DUMPED_ONLY = {
    "complex": 1.5 - 2.5j,
    "complex_i": 1j,
    "complex_in_list": [1, {"a": 2j}],
}

# execnet cannot write these; farexec writes them as execnet writes their positive twins, and execnet reads that.
NOT_OF_EXECNET = {
    "int32_min_and_1": -(2**31) - 1,
    "int64_min": -(2**63),
    "int_minus_huge": -(3**400),
}

NAMING_CODE = [print, collections.OrderedDict(a=1), Ellipsis, ValueError("x"), bytearray(b"x"), range(3), 1j]


def main():
    with open(os.path.join(HERE, "vectors.txt"), "w", encoding="utf-8", newline="\n") as out:
        for who, name, data, text in vectors():
            text = text if len(text) <= 1000 else digest(text)
            out.write(f"{who}\t{name}\t{pack(data)}\t{text}\n")


def vectors():
    for name, obj in list(OBJECTS.items()) + list(DUMPED_ONLY.items()):
        yield "execnet", name, execnet.dumps(obj), repr(obj)
    for name, obj in OBJECTS.items():
        for protocol in (3, 4):
            yield "pickle", f"{name}_{protocol}", fast_pickle(obj, protocol), repr(obj)
    for number, obj in enumerate(NAMING_CODE):
        yield "code", type(obj).__name__ + str(number), fast_pickle(obj, 4), ""
    for name, body in python_2().items():
        data = b"\x02" + body + b"Q"
        yield "py2_bytes", name, data, repr(execnet.loads(data, py2str_as_py3str=False))
        yield "py2_str", name, data, repr(execnet.loads(data, py2str_as_py3str=True))


def fast_pickle(obj, protocol):
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol)
    pickler.fast = True
    pickler.dump(obj)
    return buffer.getvalue()


def python_2():
    """What only Python 2 wrote: str, unicode, and both sizes of long."""

    def counted(opcode, data):
        return opcode + struct.pack("!i", len(data)) + data

    return {
        "str": counted(b"M", b"abc"),
        "str_latin": counted(b"M", b"\xe9\xff\x00"),
        "unicode": counted(b"S", "grüße".encode()),
        "long": b"G" + struct.pack("!i", -5),
        "long_long": counted(b"I", b"-123456789012345678901234567890"),
        "list": b"K\0\0\0\2F\0\0\0\0" + counted(b"M", b"a") + b"PF\0\0\0\1" + counted(b"S", b"b") + b"P",
        "dict": b"J" + counted(b"M", b"\xfc") + counted(b"M", b"v") + b"P",
    }


def check():
    objects = dict(OBJECTS)
    objects.update(DUMPED_ONLY)
    objects.update(NOT_OF_EXECNET)
    count = 0
    with open(os.path.join(HERE, "written.txt"), encoding="utf-8") as lines:
        for line in lines:
            encoding, name, packed = line.rstrip("\n").split("\t")
            obj = (execnet.loads if encoding == "dump" else pickle.loads)(unpack(packed))
            if repr(obj) != repr(objects[name]):
                sys.exit(f"{encoding}, {name}: {obj!r}")
            count += 1
    print(f"{count} vectors are read as they were meant")


def pack(data):
    pieces = re.split(rb"((.)\2{63,})", data, flags=re.S)
    return "".join(
        piece.hex() if index % 3 == 0 else f"({pieces[index + 1].hex()}*{len(piece)})"
        for index, piece in enumerate(pieces)
        if index % 3 != 2
    )


def unpack(text):
    return bytes.fromhex(re.sub(r"\((..)\*(\d+)\)", lambda run: run.group(1) * int(run.group(2)), text))


def digest(text):
    return f"#{len(text.encode())} {zlib.adler32(text.encode())}"


if __name__ == "__main__":
    check() if sys.argv[1:] == ["check"] else main()
