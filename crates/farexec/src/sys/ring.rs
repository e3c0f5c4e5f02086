//! Rings: the bytes of a connection between two processes of this machine, in memory that both map, instead of in a pipe. What a writer put there is
//! with the reader even if the writer is gone. [`super::handover`] says how they change hands.
//!
//! Nobody trusts the other side: places are checked, bytes are copied out before anybody looks at them, and the size of the memory is sealed.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::handover::{End, Handover};

/// Bytes of one direction's ring. Memory is taken as they are first used.
const CAPACITY: usize = 256 << 10;

/// Where the first ring begins: behind the words of both directions.
const WORDS: usize = 4096;

/// Bytes of the whole.
const TOTAL: usize = WORDS + 2 * CAPACITY;

/// Where another process finds the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) process: u32,
    pub(crate) descriptor: i32,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Memory for the two directions of one connection.
#[derive(Debug)]
struct Memory {
    address: *mut u8,
}

// SAFETY: the words are atomics; each ring's bytes are written by one `RingWriter`, which is not shared, and copied out by one `RingReader`.
#[allow(unsafe_code, reason = "a mapping is as good in one thread as in another")]
unsafe impl Send for Memory {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "as above")]
unsafe impl Sync for Memory {}

/// Which end of a connection one is; it writes into the ring of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    FromMaker = 0,
    ToMaker = 1,
}

/// Puts bytes into a ring.
#[derive(Debug)]
pub(crate) struct RingWriter {
    memory: Arc<Memory>,
    way: Way,
    end: End,
}

/// Takes bytes out of a ring.
#[derive(Debug)]
pub(crate) struct RingReader {
    memory: Arc<Memory>,
    way: Way,
    /// How far it has come; only who reads changes it.
    place: AtomicU64,
}

/// Both directions, as one side has them.
pub(crate) type Rings = (RingWriter, RingReader);

/// The other side says what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory shared with it is corrupt")]
pub(crate) struct Corrupt;

/// Makes memory that the process of the other end can map as well, by [`accept_rings`], as long as the descriptor is open.
#[cfg(target_os = "linux")]
pub(crate) fn offer_rings() -> io::Result<(Rings, OwnedFd, Place)> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};

    let fd = memfd_create("farexec", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, TOTAL as u64)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let memory = Memory::map(&fd)?;
    for way in [Way::FromMaker, Way::ToMaker] {
        memory.begin(way);
    }
    let stat = fstat(&fd)?;
    let place = Place {
        process: std::process::id(),
        descriptor: fd.as_raw_fd(),
        device: stat.st_dev,
        inode: stat.st_ino,
    };
    Ok((Memory::ends(memory, Way::FromMaker, Way::ToMaker), fd, place))
}

/// Maps what the process of the other end made.
#[cfg(target_os = "linux")]
pub(crate) fn accept_rings(place: Place) -> io::Result<Rings> {
    use rustix::fs::{Mode, OFlags, SealFlags, fcntl_get_seals, fstat, open};

    let path = format!("/proc/{}/fd/{}", place.process, place.descriptor);
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open(path, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    // With the seal, nobody can take away what is mapped, and have this process killed for looking at it.
    let is_it = (stat.st_dev, stat.st_ino) == (place.device, place.inode)
        && stat.st_size == TOTAL as i64
        && fcntl_get_seals(&fd)?.contains(SealFlags::SHRINK);
    if !is_it {
        return Err(io::Error::other("the descriptor stands for something else here"));
    }
    Ok(Memory::ends(Memory::map(&fd)?, Way::ToMaker, Way::FromMaker))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn offer_rings() -> io::Result<(Rings, OwnedFd, Place)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn accept_rings(_: Place) -> io::Result<Rings> {
    Err(io::ErrorKind::Unsupported.into())
}

#[allow(unsafe_code, reason = "shared memory has no safe interface")]
impl Memory {
    #[cfg(target_os = "linux")]
    fn map(fd: &OwnedFd) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};

        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the system likes it, of a file whose length is `TOTAL` and cannot shrink.
        let address = unsafe { mmap(std::ptr::null_mut(), TOTAL, access, MapFlags::SHARED, fd, 0)? };
        Ok(Self { address: address.cast() })
    }

    /// Sets the words of one direction up, before anybody else knows of the memory.
    #[cfg(target_os = "linux")]
    fn begin(&self, way: Way) {
        // SAFETY: within the mapping, aligned as `words` says, and nobody has a reference to it yet.
        unsafe { self.words_at(way).write(Handover::new()) };
    }

    fn words_at(&self, way: Way) -> *mut Handover {
        self.address.wrapping_add(way as usize * size_of::<Handover>()).cast()
    }

    fn words(&self, way: Way) -> &Handover {
        const { assert!(2 * size_of::<Handover>() <= WORDS && align_of::<Handover>() <= WORDS) };
        // SAFETY: within the mapping, which is aligned to pages and lives as long as `self`; atomics are good with whatever bits stand there,
        // whoever else changes them.
        unsafe { &*self.words_at(way) }
    }

    /// Copies bytes in behind `place`; they fit into a ring.
    fn write(&self, way: Way, place: u64, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(CAPACITY - offset(place)));
        // SAFETY: `offset` is below `CAPACITY`, `first` ends with the ring at the latest, and since all of it fits, `rest` ends within.
        unsafe {
            let ring = self.ring(way);
            ring.add(offset(place)).copy_from_nonoverlapping(first.as_ptr(), first.len());
            ring.copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        }
    }

    /// Copies bytes out from behind `place`, no more than a ring has, behind what is in `into`.
    fn read(&self, way: Way, place: u64, count: usize, into: &mut Vec<u8>) {
        into.reserve(count);
        let first = count.min(CAPACITY - offset(place));
        // SAFETY: the ring as in `write`, `into` by `reserve`. Who writes there meanwhile breaks the protocol, and garbles its own bytes.
        unsafe {
            let (ring, free) = (self.ring(way), into.as_mut_ptr().add(into.len()));
            ring.add(offset(place)).copy_to_nonoverlapping(free, first);
            ring.copy_to_nonoverlapping(free.add(first), count - first);
            into.set_len(into.len() + count);
        }
    }

    fn ring(&self, way: Way) -> *mut u8 {
        self.address.wrapping_add(WORDS + way as usize * CAPACITY)
    }

    #[cfg(target_os = "linux")]
    fn ends(memory: Self, writes: Way, reads: Way) -> Rings {
        let memory = Arc::new(memory);
        let end = End { place: 0, is_left: true };
        (
            RingWriter { memory: Arc::clone(&memory), way: writes, end },
            RingReader { memory, way: reads, place: AtomicU64::new(0) },
        )
    }
}

#[allow(unsafe_code, reason = "shared memory has no safe interface")]
impl Drop for Memory {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        // SAFETY: the mapping is this one's, and its users keep it in an `Arc`.
        if let Err(error) = unsafe { rustix::mm::munmap(self.address.cast(), TOTAL) } {
            tracing::warn!(%error, "shared memory could not be let go of");
        }
    }
}

fn offset(place: u64) -> usize {
    (place % CAPACITY as u64) as usize
}

impl RingWriter {
    /// Bytes from which on they are better off in the pipe.
    pub(crate) const LARGE: usize = CAPACITY / 4;

    fn words(&self) -> &Handover {
        self.memory.words(self.way)
    }

    /// Whether the stream is in the ring.
    pub(crate) fn is_entered(&self) -> bool {
        !self.end.is_left
    }

    /// Prepares for the stream to be in the ring from a SWITCH on, which the caller writes before it puts anything there. Returns `false`, and
    /// does nothing, if the reader has not come to the end of the last stay.
    pub(crate) fn enter(&mut self) -> bool {
        if self.words().taken() != self.end {
            return false;
        }
        self.end.is_left = false;
        self.words().publish_quietly(self.end);
        true
    }

    /// Puts bytes into the ring, where the stream is. `None` if they do not fit, else whether to ring.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Option<bool> {
        let filled = self.end.place.wrapping_sub(self.words().taken().place);
        // What cannot be counts as no room: the stream goes on in the pipe then.
        let room = CAPACITY.checked_sub(usize::try_from(filled).ok()?)?;
        if bytes.len() > room {
            return None;
        }
        self.memory.write(self.way, self.end.place, bytes);
        self.end.place += bytes.len() as u64;
        Some(self.words().publish(self.end))
    }

    /// The stream goes on in the pipe. The caller writes to it at once.
    pub(crate) fn leave(&mut self) {
        if self.is_entered() {
            self.end.is_left = true;
            self.words().publish_quietly(self.end);
        }
    }
}

impl RingReader {
    fn words(&self) -> &Handover {
        self.memory.words(self.way)
    }

    fn place(&self) -> u64 {
        self.place.load(Ordering::Relaxed)
    }

    /// Whether there is something to take.
    #[inline]
    pub(crate) fn has_bytes(&self) -> bool {
        self.words().end().place != self.place()
    }

    /// Whether the stream goes on in the pipe behind what is there.
    pub(crate) fn is_left(&self) -> bool {
        self.words().end().is_left
    }

    /// Has the writer ring when there is something. Returns whether there is already.
    pub(crate) fn listen(&self) -> bool {
        self.words().listen().place != self.place()
    }

    /// Takes what is there behind what is in `chunk`, as far as that has room already, and returns how much that is. Only who has the reading role
    /// calls it, and only while the stream is in the ring.
    pub(crate) fn take(&self, chunk: &mut Vec<u8>) -> Result<usize, Corrupt> {
        let (end, place) = (self.words().end(), self.place());
        let filled = end.place.checked_sub(place).and_then(|filled| usize::try_from(filled).ok());
        let filled = filled.filter(|&filled| filled <= CAPACITY).ok_or(Corrupt)?;
        let count = filled.min(chunk.capacity() - chunk.len());
        if count > 0 {
            self.memory.read(self.way, place, count, chunk);
            let place = place + count as u64;
            self.place.store(place, Ordering::Relaxed);
            self.words().take_to(End { place, is_left: false });
        }
        Ok(count)
    }

    /// Whether the stream goes on in the pipe, all that was here being taken. If so, the writer may come back after this.
    pub(crate) fn follow_out(&self) -> bool {
        let end = self.words().end();
        let follows = end.is_left && end.place == self.place();
        if follows {
            self.words().take_to(end);
        }
        follows
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn connected() -> io::Result<(Rings, Rings)> {
        let (ours, fd, place) = offer_rings()?;
        assert_eq!(place.descriptor, fd.as_raw_fd());
        Ok((ours, accept_rings(place)?))
    }

    #[test]
    fn bytes_come_as_they_were_put() -> io::Result<()> {
        let ((mut writer, _), (_, reader)) = connected()?;
        assert!(writer.enter());
        let (mut chunk, mut sent, mut came) = (Vec::with_capacity(1000), Vec::new(), Vec::new());
        // Pieces of a length that does not divide the ring, several times around.
        for number in 0..4 * CAPACITY / 777 {
            let piece: Vec<u8> = (0..777).map(|index| (number * 31 + index) as u8).collect();
            assert!(writer.put(&piece).is_some());
            sent.extend(piece);
            while reader.take(&mut chunk) != Ok(0) {
                came.append(&mut chunk);
            }
        }
        assert!(came == sent);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_goes_into_the_pipe_until_the_reader_follows() -> io::Result<()> {
        let ((_, reader), (mut writer, _)) = connected()?;
        let (piece, mut chunk) = (vec![7; RingWriter::LARGE - 1], Vec::with_capacity(CAPACITY));
        assert!(writer.enter());
        let taken = (0..10).take_while(|_| writer.put(&piece).is_some()).count();
        assert_eq!(taken, 4);
        writer.leave();
        assert!(!writer.enter());
        assert!(!reader.follow_out());
        assert_eq!(reader.take(&mut chunk), Ok(4 * piece.len()));
        assert!(!writer.enter());
        assert!(reader.follow_out());
        assert!(writer.enter());
        Ok(())
    }

    #[test]
    fn it_rings_once_for_each_time_that_somebody_listens() -> io::Result<()> {
        let ((mut writer, _), (_, reader)) = connected()?;
        assert!(writer.enter());
        assert_eq!(writer.put(b"a"), Some(false));
        assert!(reader.listen());
        assert_eq!(writer.put(b"b"), Some(true));
        assert_eq!(writer.put(b"c"), Some(false));
        Ok(())
    }

    #[test]
    fn impossible_places_are_found_out() -> io::Result<()> {
        let ((mut writer, _), (_, reader)) = connected()?;
        assert!(writer.enter());
        reader.words().publish_quietly(End { place: CAPACITY as u64 + 1, is_left: false });
        assert_eq!(reader.take(&mut Vec::with_capacity(100)), Err(Corrupt));
        writer.words().take_to(End { place: 1, is_left: false });
        assert_eq!(writer.put(b"a"), None);
        Ok(())
    }

    #[test]
    fn only_the_memory_that_is_meant_is_mapped() -> io::Result<()> {
        let (_ours, _fd, place) = offer_rings()?;
        let other = std::fs::File::open("/dev/null")?;
        assert!(accept_rings(Place { descriptor: other.as_raw_fd(), ..place }).is_err());
        assert!(accept_rings(Place { inode: place.inode + 1, ..place }).is_err());
        assert!(accept_rings(Place { process: u32::MAX, ..place }).is_err());
        Ok(())
    }
}
