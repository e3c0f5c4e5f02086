//! What of a file the far end has already: the algorithm of rsync (A. Tridgell, "Efficient Algorithms for Sorting and
//! Synchronization", 1999), with Adler-32 as the rolling sum and the first half of SHA-256 as the strong one.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Bytes of new content that are handed over at once.
const LITERAL: usize = 256 << 10;

/// Bytes read at once.
const READ: usize = 256 << 10;

/// What Adler-32 counts modulo.
const MODULUS: u32 = 65_521;

/// Bytes of the sums of one block.
const SUM_BYTES: usize = 4 + 16;

/// The shortest and the longest block that a far end may choose.
const BLOCKS: std::ops::RangeInclusive<usize> = 1 << 9..=1 << 20;

/// The sums of the blocks of the version that the far end has.
#[derive(Debug)]
pub(super) struct Sums {
    /// Bytes of each block but the last.
    block: usize,
    /// Bytes of all of them.
    length: u64,
    blocks: Vec<([u8; 4], [u8; 16])>,
    /// The blocks by their weak sums.
    order: Vec<(u32, u32)>,
    /// Which weak sums there are, by a fold of their bits: most windows match none.
    present: Box<[u64; 1 << 10]>,
}

/// A part of the new version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    New(&'a [u8]),
    /// So many bytes from there in the old version.
    Old {
        offset: u64,
        length: u64,
    },
}

impl Sums {
    /// From what a far end sent; `None` if that makes no sense.
    pub(super) fn new(block: i64, length: i64, sums: &[u8]) -> Option<Self> {
        let block = usize::try_from(block).ok().filter(|block| BLOCKS.contains(block))?;
        let length = u64::try_from(length).ok().filter(|&length| length > 0)?;
        if length.div_ceil(block as u64).checked_mul(SUM_BYTES as u64) != Some(sums.len() as u64) {
            return None;
        }
        let blocks: Vec<([u8; 4], [u8; 16])> = sums
            .chunks_exact(SUM_BYTES)
            .filter_map(|sum| Some((*sum.first_chunk::<4>()?, *sum.last_chunk::<16>()?)))
            .collect();
        let mut order = Vec::with_capacity(blocks.len());
        let mut present = Box::new([0; 1 << 10]);
        for (index, (weak, _)) in (0u32..).zip(&blocks) {
            let weak = u32::from_le_bytes(*weak);
            order.push((weak, index));
            let (word, bit) = fold(weak);
            present[word] |= bit;
        }
        order.sort_unstable();
        Some(Self { block, length, blocks, order, present })
    }

    /// The block that is this window, if there is one.
    fn find(&self, weak: u32, window: &[u8]) -> Option<usize> {
        let (word, bit) = fold(weak);
        if self.present[word] & bit == 0 {
            return None;
        }
        let first = self.order.partition_point(|&(known, _)| known < weak);
        let candidates = self.order[first..].iter().take_while(|&&(known, _)| known == weak);
        let strong = strong(window);
        candidates.map(|&(_, index)| index as usize).find(|&index| self.blocks[index].1 == strong)
    }

    fn is_block(&self, index: usize, window: &[u8]) -> bool {
        self.blocks.get(index).is_some_and(|(_, known)| *known == strong(window))
    }
}

fn fold(weak: u32) -> (usize, u64) {
    let bits = (weak ^ weak >> 16) & 0xffff;
    ((bits >> 6) as usize, 1 << (bits & 63))
}

fn strong(window: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(window);
    *digest.first_chunk().unwrap_or(&[0; 16])
}

/// Adler-32 of a window that moves.
struct Rolling {
    a: u32,
    b: u32,
    /// For each byte that leaves: what it is in `b`.
    leaving: Box<[u32; 256]>,
}

impl Rolling {
    fn new(length: usize) -> Self {
        let length = u32::try_from(length).unwrap_or(u32::MAX) % MODULUS;
        let mut leaving = Box::new([0; 256]);
        for (byte, value) in (0u32..).zip(leaving.iter_mut()) {
            *value = length * byte % MODULUS;
        }
        Self { a: 1, b: 0, leaving }
    }

    fn start(&mut self, window: &[u8]) {
        let sum = adler2::adler32_slice(window);
        (self.a, self.b) = (sum & 0xffff, sum >> 16);
    }

    fn roll(&mut self, out: u8, into: u8) {
        self.a += MODULUS + u32::from(into) - u32::from(out);
        self.a %= MODULUS;
        self.b += 2 * MODULUS + self.a - 1 - self.leaving[usize::from(out)];
        self.b %= MODULUS;
    }

    fn sum(&self) -> u32 {
        self.b << 16 | self.a
    }
}

/// Cuts the new version, as it is read, into parts. Whether it is the old version as a whole is returned; nothing is emitted then.
pub(super) fn delta<E: From<io::Error>>(
    input: impl Read,
    sums: &Sums,
    emit: impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let mut cutter =
        Cutter { input, buffer: Vec::new(), position: 0, literal: 0, at_end: false, old: 0..0, emit };
    cutter.cut(sums)
}

struct Cutter<R, F> {
    input: R,
    buffer: Vec<u8>,
    /// Where the window begins in the buffer.
    position: usize,
    /// Where the content begins that is new and not yet emitted.
    literal: usize,
    at_end: bool,
    /// A range of the old version that is found and not yet emitted: it may grow.
    old: std::ops::Range<u64>,
    emit: F,
}

impl<R: Read, F> Cutter<R, F> {
    fn cut<E: From<io::Error>>(&mut self, sums: &Sums) -> Result<bool, E>
    where
        F: FnMut(Part<'_>) -> Result<(), E>,
    {
        let block = sums.block;
        let last = sums.blocks.len() - 1;
        let last_length = usize::try_from(sums.length - (last * block) as u64).unwrap_or(block);
        let mut emitted = false;
        let mut rolling = Rolling::new(block);
        // The block that is expected next, as long as nothing new came in between.
        let mut expected = Some(0);
        let mut is_rolling = false;
        loop {
            self.fill(block + 1)?;
            let mut left = self.buffer.len() - self.position;
            if left < block && last_length < block && left > last_length {
                // Only the last block is that short, and it fits only at the end.
                self.position = self.buffer.len() - last_length;
                left = last_length;
                (expected, is_rolling) = (None, false);
            }
            let length = left.min(block);
            if length == 0 || (length < block && length != last_length) {
                break;
            }
            let window = &self.buffer[self.position..self.position + length];
            let fits = |index: usize| if index == last { length == last_length } else { length == block };
            let mut found = expected.filter(|&index| fits(index) && sums.is_block(index, window));
            if found.is_none() {
                if !is_rolling || length < block {
                    rolling.start(window);
                    is_rolling = true;
                }
                found = sums.find(rolling.sum(), window).filter(|&index| fits(index));
            }
            if let Some(index) = found {
                emitted |= self.emit_new()?;
                let offset = (index * block) as u64;
                if self.old.end != offset || self.old.is_empty() {
                    emitted |= self.emit_old()?;
                    self.old = offset..offset;
                }
                self.old.end += length as u64;
                self.position += length;
                self.literal = self.position;
                (expected, is_rolling) = (Some(index + 1), false);
                continue;
            }
            expected = None;
            if length < block {
                break;
            }
            if let Some(&into) = self.buffer.get(self.position + block) {
                rolling.roll(self.buffer[self.position], into);
            } else {
                is_rolling = false;
            }
            self.position += 1;
            if self.position - self.literal >= LITERAL {
                emitted |= self.emit_old()?;
                emitted |= self.emit_new()?;
            }
        }
        self.position = self.buffer.len();
        if !emitted && self.literal == self.position && self.old == (0..sums.length) {
            return Ok(true);
        }
        self.emit_new()?;
        self.emit_old()?;
        Ok(false)
    }

    /// Has this many bytes in the buffer from the position on, unless the input ends before.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        if self.at_end || self.buffer.len() - self.position >= count {
            return Ok(());
        }
        self.buffer.drain(..self.literal);
        self.position -= self.literal;
        self.literal = 0;
        while !self.at_end && self.buffer.len() - self.position < count {
            let before = self.buffer.len();
            (&mut self.input).take(READ as u64).read_to_end(&mut self.buffer)?;
            self.at_end = self.buffer.len() - before < READ;
        }
        Ok(())
    }

    fn emit_old<E>(&mut self) -> Result<bool, E>
    where
        F: FnMut(Part<'_>) -> Result<(), E>,
    {
        let old = std::mem::take(&mut self.old);
        if old.is_empty() {
            return Ok(false);
        }
        (self.emit)(Part::Old { offset: old.start, length: old.end - old.start })?;
        Ok(true)
    }

    /// What is new up to the position, after the old that comes before it.
    fn emit_new<E>(&mut self) -> Result<bool, E>
    where
        F: FnMut(Part<'_>) -> Result<(), E>,
    {
        if self.literal == self.position {
            return Ok(false);
        }
        self.emit_old()?;
        for part in self.buffer[self.literal..self.position].chunks(LITERAL) {
            (self.emit)(Part::New(part))?;
        }
        self.literal = self.position;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums_of(old: &[u8], block: usize) -> Sums {
        let mut sums = Vec::new();
        for window in old.chunks(block) {
            sums.extend(adler2::adler32_slice(window).to_le_bytes());
            sums.extend(strong(window));
        }
        Sums::new(i64::try_from(block).unwrap(), i64::try_from(old.len()).unwrap(), &sums).unwrap()
    }

    /// What comes out when the parts are put together, how many bytes of it were new, and whether nothing was to be done.
    fn rebuild(old: &[u8], new: &[u8], block: usize) -> (Vec<u8>, usize, bool) {
        let (mut result, mut fresh) = (Vec::new(), 0);
        let same = delta::<io::Error>(new, &sums_of(old, block), |part| {
            match part {
                Part::New(bytes) => {
                    fresh += bytes.len();
                    result.extend(bytes);
                }
                Part::Old { offset, length } => {
                    let start = usize::try_from(offset).unwrap();
                    result.extend(&old[start..start + usize::try_from(length).unwrap()]);
                }
            }
            Ok(())
        });
        (result, fresh, same.unwrap())
    }

    /// Bytes without a pattern, the same each time.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_did_not_change_is_found_wherever_it_went() {
        let old = noise(1_000_003, 7);
        let block = 1 << 12;
        let (result, fresh, same) = rebuild(&old, &old, block);
        assert!(result.is_empty() && fresh == 0 && same);

        let mut changed = old.clone();
        changed[500_000] ^= 1;
        let inserted = [&old[..10_000], b"something new", &old[10_000..]].concat();
        let removed = [&old[..300_000], &old[300_007..]].concat();
        let moved = [&old[600_000..], &old[..600_000]].concat();
        let appended = [&old[..], b"tail"].concat();
        let cut = old[..700_001].to_vec();
        for (name, new) in [
            ("changed", changed),
            ("inserted", inserted),
            ("removed", removed),
            ("moved", moved),
            ("appended", appended),
            ("cut", cut),
        ] {
            let (result, fresh, same) = rebuild(&old, &new, block);
            assert_eq!(result, new, "{name}");
            assert!(!same && fresh <= 3 * block, "{name}: {fresh} bytes sent");
        }
    }

    #[test]
    fn anything_is_rebuilt_exactly() {
        let block = 1 << 9;
        for round in 0..300u64 {
            let length = |salt: u64| usize::try_from((round * 7919 + salt * 104_729) % 5000).unwrap();
            let old = noise(length(1) + 1, round + 1);
            let new = match round % 5 {
                0 => noise(length(2), round + 2),
                1 => [&old[..old.len() / 2], &noise(length(3) % 600, 5)[..], &old[old.len() / 2..]].concat(),
                2 => old.repeat(3),
                3 => old[old.len() / 3..].to_vec(),
                _ => vec![b'x'; length(4)],
            };
            let (result, _, same) = rebuild(&old, &new, block);
            if same {
                assert_eq!(old, new);
            } else {
                assert_eq!(result, new, "round {round}");
            }
        }
    }

    #[test]
    fn sums_that_make_no_sense_are_refused() {
        assert!(Sums::new(1024, 1024, &[0; 20]).is_some());
        assert!(Sums::new(1024, 1025, &[0; 40]).is_some());
        for (block, length, bytes) in [
            (0, 1, 20),
            (-1, 1, 20),
            (1024, 0, 0),
            (1024, -5, 20),
            (1024, 1025, 20),
            (1024, 1024, 21),
            (i64::MAX, i64::MAX, 20),
        ] {
            assert!(Sums::new(block, length, &vec![0; bytes]).is_none(), "{block} {length} {bytes}");
        }
    }
}
