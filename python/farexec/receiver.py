"""Receives a tree of files: what rsync executes at each target's worker.

The two sides talk over one channel. Entries of the tree are known by their numbers, in the order in which they were listed; several
numbers travel as packed little-endian integers of 32 bits, sizes and times (nanoseconds) as ones of 64 bits. Paths are bytes,
relative to the destination, with ``/`` between names.

The coordinator sends the tree, parents first, then what it was asked for::

    ["tree", kinds, paths, modes, sizes, times, links]     one batch; kinds: a letter each, paths and links end with a zero byte
    ["listed"]
    ["files", numbers, times, [content, ...]]      whole files
    ["begin", number, time]                        one file in pieces, which follow:
    bytes, or ["copy", offset, length]             new content, or content of the old version
    ["take", path, device, inode]                  all content, from where it is: only if both are on one machine
    ["commit"] or ["abort"]
    ["same", number, time]                         the old version has this content already
    ["end"]

From here it gets::

    ["need", numbers]                              files whose content is missing
    ["sums", number, block, size, sums]            a file with an old version of this size: adler32 (4 bytes) and sha256 (the first 16)
                                                   of each block of it
    ["listed"]                                     no more of these
    ["done", numbers]                              these are in place
    ["failed", number, text]                       -1: no entry of the tree; the text says what
    ["end", deleted]                               how many names were deleted

A file is written under another name and then renamed, so nobody ever sees a part of it. Runs on Python 2.7 and 3.6 or newer, without
anything but the standard library.
"""

import errno
import os
import shutil
import stat
import struct
import sys
from binascii import hexlify
from hashlib import sha256
from zlib import adler32

FILE, DIRECTORY, LINK, INNER_LINK, KEPT = "f", "d", "l", "i", "k"
TOLERANCE = 1000  # nanoseconds: what floating-point times lose
SMALL = 1 << 16  # bytes: an old version up to this is compared as a whole
BLOCK_MIN, BLOCK_MAX = 1 << 14, 1 << 17  # bytes
COPY = 1 << 18  # bytes that are copied at once
TAKE = 1 << 26  # bytes that the system copies at once, before a look whether that is still wanted
NEEDS = 500  # numbers that are asked for at once
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
HAS_TIMES_OF_DESCRIPTORS = os.utime in getattr(os, "supports_fd", ())


def receive(channel, destination, delete, here):
    """`here`: the source is on this machine, so that large files can be copied and need no sums."""
    tree = Tree(channel, os.path.abspath(destination), delete, here)
    try:
        for item in channel:
            if item[0] == "tree":
                tree.look(*item[1:])
            elif item[0] == "listed":
                break
            else:
                raise ValueError("%r while the tree is listed" % (item[0],))
        tree.listed()
        for item in channel:
            if isinstance(item, bytes):
                tree.piece(item)
            elif item[0] == "end":
                tree.end()
                return
            elif item[0] in ("files", "begin", "copy", "take", "commit", "abort", "same"):
                getattr(tree, item[0])(*item[1:])
            else:
                raise ValueError("%r is not expected" % (item[0],))
    finally:
        tree.abort()


class Tree(object):
    """A destination while it is made what the source is."""

    def __init__(self, channel, root, delete, here):
        self.channel = channel
        self.root = root
        self.delete = delete
        self.here = here
        self.count = 0  # entries listed so far
        self.children = {}  # the directories of the tree, by path -> the names in each
        self.failed_paths = set()  # directories that could not be made
        self.wanted = {}  # number -> (path, mode, what an old version's stat was)
        self.needed = []  # numbers to be asked for
        self.late_modes = []  # of directories that must stay writable until the end
        self.links = []  # (number, path, target)
        self.deleted = 0
        self.prefix = b".farexec-" + hexlify(os.urandom(6)) + b"-"
        self.temporaries = 0
        self.open = None  # the file that is written in pieces

    # ---- the tree ----

    def look(self, kinds, paths, modes, sizes, times, links):
        count = len(kinds)
        kinds = kinds.decode("ascii")
        modes = struct.unpack("<%dI" % count, modes)
        sizes = struct.unpack("<%dQ" % count, sizes)
        times = struct.unpack("<%dq" % count, times)
        links = iter(links.split(b"\0"))
        paths = paths.split(b"\0")
        paths.pop()
        if len(paths) != count:
            raise ValueError("%d paths for %d entries" % (len(paths), count))
        for index in range(count):
            number, self.count = self.count, self.count + 1
            path, kind = paths[index], kinds[index]
            target = next(links) if kind in (LINK, INNER_LINK) else None
            try:
                full = self.place_of(path, number)
                if full is None:
                    continue  # in a directory that failed
                if kind == FILE:
                    self.look_at_file(number, path, full, modes[index], sizes[index], times[index])
                elif kind == DIRECTORY:
                    self.make_directory(path, full, modes[index])
                elif kind != KEPT:
                    if kind == INNER_LINK:
                        target = os.path.join(self.root, target)
                    self.links.append((number, full, target))
            except EnvironmentError as error:
                self.failed(number, error)
                if kind == DIRECTORY:
                    self.failed_paths.add(path)
        self.ask()

    def place_of(self, path, number):
        """Where a listed path belongs; nothing that leaves the destination has such a place."""
        if not path:
            if number:
                raise ValueError("the destination itself is listed twice")
            return self.root
        parent, _, name = path.rpartition(b"/")
        if parent in self.children:
            is_name = name not in (b"", b".", b"..") and (os.sep == "/" or os.path.basename(name) == name)
            if not is_name or path.startswith(b"/"):
                raise ValueError("%r would leave the destination" % (path,))
            self.children[parent].add(name)
            return os.path.join(self.root, path)
        if parent in self.failed_paths:
            self.failed_paths.add(path)
            return None
        raise ValueError("%r is in no directory of the tree" % (path,))

    def make_directory(self, path, full, mode):
        found = lstat(full)
        if not path:
            if found is None:
                os.makedirs(full)
            elif not os.path.isdir(full):
                raise EnvironmentError(errno.ENOTDIR, "the destination exists and is not a directory")
            found = os.stat(full)
        elif found is not None and not stat.S_ISDIR(found.st_mode):
            os.unlink(full)
            found = None
        if found is None:
            os.mkdir(full, 0o700)
            found = os.lstat(full)
        if mode & 0o700 != 0o700:
            self.late_modes.append((full, mode))
        if stat.S_IMODE(found.st_mode) != mode | 0o700:
            os.chmod(full, mode | 0o700)
        self.children[path] = set()

    def look_at_file(self, number, path, full, mode, size, time):
        found = lstat(full)
        if not path and found is not None and os.path.isdir(full):
            raise EnvironmentError(errno.EISDIR, "the source is a file and the destination is a directory")
        if not path and found is None and not os.path.isdir(os.path.dirname(full)):
            os.makedirs(os.path.dirname(full))
        old = None
        if found is not None and stat.S_ISREG(found.st_mode):
            old = (found.st_ino, found.st_size, nanoseconds(found))
            if found.st_size == size and abs(old[2] - time) <= TOLERANCE:
                if stat.S_IMODE(found.st_mode) != mode:
                    os.chmod(full, mode)
                return
        self.wanted[number] = (full, mode, old)
        is_taken = self.here and size > SMALL
        if old is not None and size and found.st_size and (found.st_size == size or found.st_size > SMALL) and not is_taken:
            try:
                self.ask_with_sums(number, full, found.st_size)
                return
            except EnvironmentError:
                pass  # what cannot be read is written anew
        self.needed.append(number)
        if len(self.needed) >= NEEDS:
            self.ask()

    def ask(self):
        if self.needed:
            self.channel.send([u"need", pack(self.needed)])
            self.needed = []

    def ask_with_sums(self, number, full, size):
        block = SMALL
        if size > SMALL:
            block = BLOCK_MIN
            while block < BLOCK_MAX and block * block < size:
                block *= 2
        sums = []
        with reading(full) as old:
            while True:
                data = old.read(block)
                if not data:
                    break
                sums.append(struct.pack("<I", adler32(data) & 0xFFFFFFFF) + sha256(data).digest()[:16])
        self.channel.send([u"sums", number, block, size, b"".join(sums)])

    def listed(self):
        """The whole tree is known: what is not in it goes, if it should."""
        for path in sorted(self.children) if self.delete else ():
            folder = os.path.join(self.root, path) if path else self.root
            for name in os.listdir(folder):
                if name not in self.children[path]:
                    try:
                        remove(os.path.join(folder, name))
                        self.deleted += 1
                    except EnvironmentError as error:
                        self.failed(-1, error)
        for number, full, target in self.links:
            try:
                self.make_link(full, target)
            except EnvironmentError as error:
                self.failed(number, error)
        self.children = self.links = None
        self.channel.send([u"listed"])

    def make_link(self, full, target):
        try:
            if os.readlink(full) == target:
                return
        except EnvironmentError:
            pass
        temporary = self.temporary(full)
        os.symlink(target, temporary)
        self.rename(temporary, full)

    # ---- content ----

    def temporary(self, full):
        self.temporaries += 1
        return os.path.join(os.path.dirname(full), self.prefix + str(self.temporaries).encode("ascii"))

    def rename(self, temporary, full):
        try:
            try:
                os.rename(temporary, full)
            except EnvironmentError:
                if not os.path.isdir(full) or os.path.islink(full):
                    raise
                remove(full)
                os.rename(temporary, full)
        except EnvironmentError:
            os.unlink(temporary)
            raise

    def files(self, numbers, times, contents):
        numbers = struct.unpack("<%dI" % len(contents), numbers)
        times = struct.unpack("<%dq" % len(contents), times)
        done = []
        for index, content in enumerate(contents):
            number, time = numbers[index], times[index]
            full, mode, _ = self.wanted.pop(number)
            try:
                File(self, full).finish(content, mode, time)
                done.append(number)
            except EnvironmentError as error:
                self.failed(number, error)
        self.channel.send([u"done", pack(done)])

    def begin(self, number, time):
        self.abort()
        full, mode, old = self.wanted.pop(number)
        self.open = Pieces(number, full, mode, time, old)
        self.attempt(self.open.begin, self)

    def piece(self, data):
        self.attempt(lambda: self.open.file.write(data))

    def copy(self, offset, length):
        self.attempt(lambda: self.open.copy(offset, length))

    def take(self, path, device, inode):
        self.attempt(lambda: self.open.take(path, (device, inode), self.channel.isclosed))

    def commit(self):
        pieces = self.open
        self.attempt(pieces.commit)
        self.abort()
        if not pieces.failed:
            self.channel.send([u"done", pack([pieces.number])])

    def abort(self):
        if self.open is not None:
            self.open.close()
            self.open = None

    def attempt(self, act, *arguments):
        """Does one step with the file at hand; after a failed one, the rest of its pieces is nothing to do."""
        pieces = self.open
        if pieces.failed:
            return
        try:
            act(*arguments)
        except EnvironmentError as error:
            pieces.failed = True
            pieces.close()
            self.failed(pieces.number, error)

    def same(self, number, time):
        full, mode, old = self.wanted.pop(number)
        try:
            found = os.lstat(full)
            if old != (found.st_ino, found.st_size, nanoseconds(found)):
                raise EnvironmentError(errno.EBUSY, "it was changed at the destination meanwhile")
            if stat.S_IMODE(found.st_mode) != mode:
                os.chmod(full, mode)
            set_times(full, time)
            self.channel.send([u"done", pack([number])])
        except EnvironmentError as error:
            self.failed(number, error)

    def end(self):
        for full, mode in reversed(self.late_modes):
            try:
                os.chmod(full, mode)
            except EnvironmentError as error:
                self.failed(-1, error)
        self.channel.send([u"end", self.deleted])

    def failed(self, number, error):
        text = error.strerror or str(error)
        if number < 0 and error.filename:
            text = "%s: %r" % (text, error.filename)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        self.channel.send([u"failed", number, text])


class File(object):
    """A file while it is written, under a name of its own."""

    def __init__(self, tree, full):
        self.tree = tree
        self.full = full
        self.temporary = tree.temporary(full)
        self.descriptor = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o600)

    def write(self, data):
        written = os.write(self.descriptor, data)
        if written < len(data):
            rest = memoryview(data)[written:]
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]

    def finish(self, content, mode, time):
        """Writes the last content, and gives the file its mode, its time and its name."""
        try:
            self.write(content)
            os.fchmod(self.descriptor, mode)
            if HAS_TIMES_OF_DESCRIPTORS:
                set_times(self.descriptor, time)
            else:
                set_times(self.temporary, time)
            os.close(self.descriptor)
            self.descriptor = None
            temporary, self.temporary = self.temporary, None
            self.tree.rename(temporary, self.full)
        finally:
            self.discard()

    def discard(self):
        """Leaves nothing behind of a file that was not finished."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        if self.temporary is not None:
            os.unlink(self.temporary)
            self.temporary = None


def in_the_system(source, offset, target, length):
    """Has the system copy from one file to the end of another, which it may do without moving anything; returns how much it did."""
    copied = 0
    try:
        while copied < length:
            count = os.copy_file_range(source, target, length - copied, offset + copied)
            if not count:
                break
            copied += count
    except (AttributeError, OSError):  # it cannot, or not between these two; what is left is copied by hand, or fails there
        pass
    return copied


class Pieces(object):
    """A file that comes in pieces, some of them from its old version."""

    def __init__(self, number, full, mode, time, old):
        self.number = number
        self.full = full
        self.mode = mode
        self.time = time
        self.old = old
        self.old_file = None
        self.file = None
        self.failed = False

    def begin(self, tree):
        self.file = File(tree, self.full)

    def copy(self, offset, length):
        if self.old_file is None:
            self.old_file = reading(self.full)
            self.check()
        copied = in_the_system(self.old_file.fileno(), offset, self.file.descriptor, length)
        offset, length = offset + copied, length - copied
        self.old_file.seek(offset)
        while length:
            data = self.old_file.read(min(length, COPY))
            if not data:
                self.changed()
            self.file.write(data)
            length -= len(data)

    def take(self, path, identity, is_over):
        with reading(path) as source:
            found = os.fstat(source.fileno())
            if (found.st_dev, found.st_ino) != identity:
                raise EnvironmentError(errno.EBUSY, "another file took its place at the source meanwhile")
            offset = 0
            while not is_over():
                copied = in_the_system(source.fileno(), offset, self.file.descriptor, TAKE)
                if not copied:
                    source.seek(offset)
                    data = source.read(COPY)
                    if not data:
                        return
                    self.file.write(data)
                    copied = len(data)
                offset += copied
        raise EnvironmentError(errno.ECANCELED, "it is not wanted any more")

    def check(self):
        """The old version must be the one whose sums were sent."""
        found = os.fstat(self.old_file.fileno())
        if self.old != (found.st_ino, found.st_size, nanoseconds(found)):
            self.changed()

    def changed(self):
        raise EnvironmentError(errno.EBUSY, "it was changed at the destination meanwhile")

    def commit(self):
        if self.old_file is not None:
            self.check()
        self.file.finish(b"", self.mode, self.time)

    def close(self):
        if self.old_file is not None:
            self.old_file.close()
        if self.file is not None:
            self.file.discard()
            self.file = None


def lstat(path):
    """What is there; None if nothing is."""
    try:
        return os.lstat(path)
    except EnvironmentError as error:
        if error.errno != errno.ENOENT:
            raise


def reading(path):
    """Opens a regular file; links are not followed."""
    return os.fdopen(os.open(path, os.O_RDONLY | NOFOLLOW), "rb", 0)


def nanoseconds(found):
    if sys.version_info >= (3, 3):
        return found.st_mtime_ns
    return int(round(found.st_mtime * 1e6)) * 1000


def set_times(path, time):
    if sys.version_info >= (3, 3):
        os.utime(path, ns=(time, time))
    else:
        # It takes floating-point numbers, which are right to a quarter of a microsecond, and cuts off what is below a whole one.
        seconds = (time // 1000 + 0.5) / 1e6
        os.utime(path, (seconds, seconds))


def pack(numbers):
    return struct.pack("<%dI" % len(numbers), *numbers)


def remove(path):
    """Removes whatever is there, with all that is in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, **{"onexc" if sys.version_info >= (3, 12) else "onerror": remove_from_locked})
    else:
        os.unlink(path)


def remove_from_locked(_, path, __):
    """Removes what could not be removed because its directory, or itself, forbids it."""
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
