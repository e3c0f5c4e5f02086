//! Whether an object that is nested too deeply contains itself, and where: looked for only once encoding has failed.

use std::collections::HashSet;

use farexec::proto::encoding::{EncodeError, EncodeErrorKind, Segment};
use farexec::proto::limits::MAX_NESTING;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// The better error for an object that could not be encoded because it is nested too deeply.
pub(crate) fn explain(object: &Bound<'_, PyAny>, error: EncodeError) -> EncodeError {
    if *error.kind() != EncodeErrorKind::TooDeep {
        return error;
    }
    let mut search = Search { above: Vec::new(), seen: HashSet::new() };
    search.cycle(object).unwrap_or(error)
}

struct Search {
    /// The containers that lead to the present one.
    above: Vec<usize>,
    /// Those that were looked through, and contain no cycle.
    seen: HashSet<usize>,
}

impl Search {
    /// The error that leads to the first part which contains itself. Sets have only elements that never change, so they contain none.
    fn cycle(&mut self, object: &Bound<'_, PyAny>) -> Option<EncodeError> {
        let address = object.as_ptr() as usize;
        if self.above.contains(&address) {
            return Some(EncodeError::custom("it contains itself"));
        }
        if self.above.len() > MAX_NESTING || self.seen.contains(&address) {
            return None;
        }
        self.above.push(address);
        let found = self.cycle_in(object);
        self.above.pop();
        self.seen.insert(address);
        found
    }

    fn cycle_in(&mut self, object: &Bound<'_, PyAny>) -> Option<EncodeError> {
        let index = |index| move |error: EncodeError| error.within(Segment::Index(index));
        if let Ok(list) = object.cast_exact::<PyList>() {
            return (0..list.len()).find_map(|i| self.cycle(&list.get_item(i).ok()?).map(index(i)));
        }
        if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            return (0..tuple.len()).find_map(|i| self.cycle(&tuple.get_item(i).ok()?).map(index(i)));
        }
        let items = object.cast_exact::<PyDict>().ok()?.items();
        items.iter().find_map(|entry| {
            let (key, value) = entry.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>().ok()?;
            let error = self.cycle(&value)?;
            Some(error.at_key(key.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string())))
        })
    }
}
