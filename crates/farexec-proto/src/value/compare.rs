//! Equality of values: in order where order matters, and whatever the order where it does not.

use std::cmp::Ordering;

use num_bigint::BigInt;

use super::Value;

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::BigInt(a), Self::BigInt(b)) => a == b,
            (Self::Int(a), Self::BigInt(b)) | (Self::BigInt(b), Self::Int(a)) => *b == BigInt::from(*a),
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Complex(a, b), Self::Complex(c, d)) => a == c && b == d,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Tuple(a), Self::Tuple(b)) | (Self::List(a), Self::List(b)) => a == b,
            (Self::Dict(a), Self::Dict(b)) => {
                same_in_any_order(a, b, |(key, _), (other, _)| key.order(other))
            }
            (Self::Set(a), Self::Set(b)) | (Self::FrozenSet(a), Self::FrozenSet(b)) => {
                same_in_any_order(a, b, Self::order)
            }
            (Self::Channel(a), Self::Channel(b)) => a == b,
            _ => false,
        }
    }
}

fn same_in_any_order<T: PartialEq>(a: &[T], b: &[T], order: impl Fn(&T, &T) -> Ordering) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // Mostly they are in the same order, and sorting is for nothing.
    if a == b {
        return true;
    }
    let sorted = |items: &[T]| {
        let mut indices: Vec<usize> = (0..items.len()).collect();
        indices.sort_by(|a, b| order(&items[*a], &items[*b]));
        indices
    };
    let (order_of_a, order_of_b) = (sorted(a), sorted(b));
    // Comparing the same pairs once more would, with containers in containers, double the work at every level.
    order_of_a != order_of_b && order_of_a.into_iter().zip(order_of_b).all(|(i, j)| a[i] == b[j])
}

impl Value {
    /// Some total order, the same on either side of a comparison.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::BigInt(a), Self::BigInt(b)) => a.cmp(b),
            (Self::Int(a), Self::BigInt(b)) => BigInt::from(*a).cmp(b),
            (Self::BigInt(a), Self::Int(b)) => a.cmp(&BigInt::from(*b)),
            (Self::Float(a), Self::Float(b)) => float_order(*a, *b),
            (Self::Complex(a, b), Self::Complex(c, d)) => float_order(*a, *c).then(float_order(*b, *d)),
            (Self::Str(a), Self::Str(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Channel(a), Self::Channel(b)) => a.cmp(b),
            (Self::Tuple(a), Self::Tuple(b)) | (Self::List(a), Self::List(b)) => sequence_order(a, b),
            (Self::FrozenSet(a), Self::FrozenSet(b)) | (Self::Set(a), Self::Set(b)) => {
                sequence_order(&sorted(a), &sorted(b))
            }
            (Self::Dict(a), Self::Dict(b)) => {
                let keys = |entries: &[(Self, Self)]| entries.iter().map(|(key, _)| key.clone()).collect();
                let (a, b): (Vec<Self>, Vec<Self>) = (keys(a), keys(b));
                sequence_order(&sorted(&a), &sorted(&b))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Bool(_) => 1,
            Self::Int(_) | Self::BigInt(_) => 2,
            Self::Float(_) => 3,
            Self::Complex(..) => 4,
            Self::Str(_) => 5,
            Self::Bytes(_) => 6,
            Self::Tuple(_) => 7,
            Self::List(_) => 8,
            Self::Dict(_) => 9,
            Self::Set(_) => 10,
            Self::FrozenSet(_) => 11,
            Self::Channel(_) => 12,
        }
    }
}

fn sorted(items: &[Value]) -> Vec<&Value> {
    let mut items: Vec<&Value> = items.iter().collect();
    items.sort_by(|a, b| a.order(b));
    items
}

fn sequence_order<T: std::borrow::Borrow<Value>>(a: &[T], b: &[T]) -> Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| a.borrow().order(b.borrow()));
    a.len().cmp(&b.len()).then(pairs.fold(Ordering::Equal, Ordering::then))
}

/// By value, so that both zeros are the same; what cannot be compared so, by bits.
fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.total_cmp(&b))
}
