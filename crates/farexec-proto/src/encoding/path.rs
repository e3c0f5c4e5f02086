//! The way from an item to a part of it, for errors of both directions.
//!
//! A path costs nothing until something fails: it is put together while the error passes outwards, so its segments come
//! innermost first.

use std::fmt;

/// One step into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Segment {
    /// The element of a list or tuple.
    Index(usize),
    /// The value of a dict entry; the key as Python would print it.
    Value(String),
    /// A key of a dict.
    Key,
    /// An element of a set or frozenset.
    Element,
}

/// The way from an item to a part of it. It prints as Python would spell it: `data['x'][3]`.
///
/// ```
/// use farexec_proto::encoding::{Path, Segment};
///
/// let mut path = Path::default();
/// path.enclose(Segment::Index(3));
/// path.enclose(Segment::Value("'x'".into()));
/// assert_eq!(path.to_string(), "data['x'][3]");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Segment>);

impl Path {
    /// Adds a step in front: the container that all steps so far were in.
    pub fn enclose(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    /// Whether it leads to the item itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The steps, outermost first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.0.iter().rev()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "an element of (a key of data['x'])[0]": what stands in front of the item reads from the inside out.
        let mut prefixes: Vec<&str> = Vec::new();
        let mut text = String::from("data");
        for segment in self.segments() {
            let step = match segment {
                Segment::Index(index) => format!("[{index}]"),
                Segment::Value(key) => format!("[{key}]"),
                Segment::Key => {
                    prefixes.push("a key of ");
                    continue;
                }
                Segment::Element => {
                    prefixes.push("an element of ");
                    continue;
                }
            };
            if !prefixes.is_empty() {
                let prefix: String = prefixes.drain(..).rev().collect();
                text = format!("({prefix}{text})");
            }
            text.push_str(&step);
        }
        prefixes.iter().rev().try_for_each(|prefix| f.write_str(prefix))?;
        f.write_str(&text)
    }
}
