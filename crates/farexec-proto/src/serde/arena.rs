//! What a payload decodes into before serde asks for it: nodes in flat vectors, with strings and bytes left where they are.

use std::vec::Drain;

use crate::ChannelId;
use crate::encoding::{Build, BuildError, Text};

/// The contents of all containers, and what does not stand in the payload as it is.
#[derive(Default)]
pub(super) struct Arena<'p> {
    nodes: Vec<Node<'p>>,
    ranges: Vec<Range>,
    texts: Vec<String>,
    /// The bytes of all big ints.
    digits: Vec<u8>,
}

/// One object.
#[derive(Clone, Copy)]
pub(super) enum Node<'p> {
    None,
    Bool(bool),
    Int(i64),
    /// Where its bytes begin and end.
    BigInt(usize, usize),
    Float(f64),
    Complex(f64, f64),
    Str(&'p str),
    /// A string that is not in the payload.
    Text(usize),
    Bytes(&'p [u8]),
    Channel(ChannelId),
    Tuple(Contents),
    List(Contents),
    Dict(Contents),
    Set(Contents),
    FrozenSet(Contents),
}

/// The contents of a container: the number of its first range.
#[derive(Clone, Copy)]
pub(super) struct Contents(usize);

/// Some of a container's contents, next to each other. Containers that are extended later may have several.
struct Range {
    start: usize,
    end: usize,
    next: Option<usize>,
    /// Of the first range only: which is the last, and how many nodes are in all of them.
    last: usize,
    total: usize,
}

impl<'p> Arena<'p> {
    pub(super) fn text(&self, index: usize) -> &str {
        self.texts.get(index).map_or("", String::as_str)
    }

    pub(super) fn digits(&self, start: usize, end: usize) -> &[u8] {
        self.digits.get(start..end).unwrap_or_default()
    }

    pub(super) fn contents(&self, contents: Contents) -> Nodes<'_, 'p> {
        let left = self.ranges.get(contents.0).map_or(0, |range| range.total);
        Nodes { arena: self, nodes: [].iter(), next: Some(contents.0), left }
    }

    fn put(&mut self, nodes: impl IntoIterator<Item = Node<'p>>) -> Contents {
        let start = self.nodes.len();
        self.nodes.extend(nodes);
        let (number, end) = (self.ranges.len(), self.nodes.len());
        self.ranges.push(Range { start, end, next: None, last: number, total: end - start });
        Contents(number)
    }

    fn extend<const N: usize>(&mut self, object: &Node<'p>, nodes: [Node<'p>; N]) {
        let (Node::List(contents) | Node::Dict(contents) | Node::Set(contents)) = object else { return };
        let Some(first) = self.ranges.get_mut(contents.0) else { return };
        first.total += N;
        let last = first.last;
        match self.ranges.get_mut(last) {
            // Nothing came in between: it goes on where it ended.
            Some(range) if range.end == self.nodes.len() => {
                self.nodes.extend(nodes);
                range.end += N;
            }
            _ => {
                let Contents(added) = self.put(nodes);
                if let Some(range) = self.ranges.get_mut(last) {
                    range.next = Some(added);
                }
                if let Some(first) = self.ranges.get_mut(contents.0) {
                    first.last = added;
                }
            }
        }
    }
}

/// The nodes in a container, in order.
#[derive(Clone)]
pub(super) struct Nodes<'a, 'p> {
    arena: &'a Arena<'p>,
    nodes: std::slice::Iter<'a, Node<'p>>,
    next: Option<usize>,
    left: usize,
}

impl<'p> Iterator for Nodes<'_, 'p> {
    type Item = Node<'p>;

    #[inline]
    fn next(&mut self) -> Option<Node<'p>> {
        loop {
            if let Some(node) = self.nodes.next() {
                self.left -= 1;
                return Some(*node);
            }
            let range = self.arena.ranges.get(self.next?)?;
            self.next = range.next;
            self.nodes = self.arena.nodes.get(range.start..range.end)?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Nodes<'_, '_> {}

impl<'p> Build<'p> for Arena<'p> {
    type Object = Node<'p>;

    #[inline]
    fn none(&mut self) -> Result<Node<'p>, BuildError> {
        Ok(Node::None)
    }

    #[inline]
    fn bool(&mut self, value: bool) -> Result<Node<'p>, BuildError> {
        Ok(Node::Bool(value))
    }

    #[inline]
    fn int(&mut self, value: i64) -> Result<Node<'p>, BuildError> {
        Ok(Node::Int(value))
    }

    fn big_int(&mut self, little_endian: &[u8]) -> Result<Node<'p>, BuildError> {
        let start = self.digits.len();
        self.digits.extend_from_slice(little_endian);
        Ok(Node::BigInt(start, self.digits.len()))
    }

    #[inline]
    fn float(&mut self, value: f64) -> Result<Node<'p>, BuildError> {
        Ok(Node::Float(value))
    }

    fn complex(&mut self, real: f64, imaginary: f64) -> Result<Node<'p>, BuildError> {
        Ok(Node::Complex(real, imaginary))
    }

    #[inline]
    fn str(&mut self, text: Text<'p>) -> Result<Node<'p>, BuildError> {
        text.to_str().map(Node::Str)
    }

    fn converted_str(&mut self, value: String) -> Result<Node<'p>, BuildError> {
        self.texts.push(value);
        Ok(Node::Text(self.texts.len() - 1))
    }

    #[inline]
    fn bytes(&mut self, value: &'p [u8]) -> Result<Node<'p>, BuildError> {
        Ok(Node::Bytes(value))
    }

    fn channel(&mut self, id: ChannelId) -> Result<Node<'p>, BuildError> {
        Ok(Node::Channel(id))
    }

    fn tuple(&mut self, items: Drain<'_, Node<'p>>) -> Result<Node<'p>, BuildError> {
        Ok(Node::Tuple(self.put(items)))
    }

    fn list(&mut self, items: Drain<'_, Node<'p>>) -> Result<Node<'p>, BuildError> {
        Ok(Node::List(self.put(items)))
    }

    fn dict(&mut self, entries: Drain<'_, Node<'p>>) -> Result<Node<'p>, BuildError> {
        Ok(Node::Dict(self.put(entries)))
    }

    fn set(&mut self, items: Drain<'_, Node<'p>>) -> Result<Node<'p>, BuildError> {
        Ok(Node::Set(self.put(items)))
    }

    fn frozen_set(&mut self, items: Drain<'_, Node<'p>>) -> Result<Node<'p>, BuildError> {
        Ok(Node::FrozenSet(self.put(items)))
    }

    fn append(&mut self, list: &mut Node<'p>, item: Node<'p>) -> Result<(), BuildError> {
        self.extend(list, [item]);
        Ok(())
    }

    fn insert(&mut self, dict: &mut Node<'p>, key: Node<'p>, value: Node<'p>) -> Result<(), BuildError> {
        self.extend(dict, [key, value]);
        Ok(())
    }

    fn add(&mut self, set: &mut Node<'p>, item: Node<'p>) -> Result<(), BuildError> {
        self.extend(set, [item]);
        Ok(())
    }
}
