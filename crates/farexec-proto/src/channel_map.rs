//! Maps by channel number, which every frame looks something up in.
//!
//! The standard library's maps hash with SipHash, which withstands whoever chooses keys that collide, and costs a third of what is done
//! with an item. Numbers of 32 bits need less for that: one multiplication by a secret factor, both halves of the product folded
//! into one, as wyhash does it (<https://github.com/wangyi-fudan/wyhash>).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::ChannelId;

/// A map by channel number.
pub(crate) type ChannelMap<V> = HashMap<ChannelId, V, Secret>;

/// The secret of one map.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    mask: u64,
    factor: u64,
}

impl Default for Secret {
    fn default() -> Self {
        let random = RandomState::new();
        Self { mask: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for Secret {
    type Hasher = Folding;

    #[inline]
    fn build_hasher(&self) -> Folding {
        Folding { mask: self.mask, factor: self.factor, hash: 0 }
    }
}

/// Hashes one number.
#[derive(Debug)]
pub(crate) struct Folding {
    mask: u64,
    factor: u64,
    hash: u64,
}

impl Hasher for Folding {
    #[inline]
    fn write_u32(&mut self, number: u32) {
        let product = u128::from(self.hash ^ u64::from(number) ^ self.mask) * u128::from(self.factor);
        #[allow(clippy::cast_possible_truncation, reason = "the halves of it")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.hash = low ^ high;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_and_far_apart_are_spread() {
        let secret = Secret::default();
        for step in [1, 2, 1 << 8, 1 << 16, 1 << 20] {
            let mut places = [0_u32; 64];
            for number in 0..4096_u32 {
                places[(secret.hash_one(ChannelId::new(number.wrapping_mul(step))) % 64) as usize] += 1;
            }
            let distinct = (4096_u64).min((1 << 32) / u64::from(step)) as u32;
            let fair = 4096 / 64;
            assert!(places.iter().all(|&count| count < fair * 4 * (4096 / distinct)), "{step}: {places:?}");
        }
    }

    #[test]
    fn every_map_has_a_secret_of_its_own() {
        let number = ChannelId::new(7);
        assert_ne!(Secret::default().hash_one(number), Secret::default().hash_one(number));
    }
}
