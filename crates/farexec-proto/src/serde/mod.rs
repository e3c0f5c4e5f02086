//! Items as Rust types, through serde: no tree of objects is built in between, in either direction.
//!
//! | Rust, to be sent | Python |
//! | --- | --- |
//! | `bool` | bool |
//! | integers, up to 128 bits | int |
//! | `f32`, `f64` | float |
//! | `char`, `str`, `String` | str |
//! | what serializes as bytes | bytes |
//! | `()`, unit structs, [`Option::None`] | None |
//! | `Some(x)`, newtype structs | as `x` |
//! | tuples, arrays, tuple structs | tuple |
//! | `Vec` and other sequences, sets among them | list |
//! | maps | dict |
//! | structs | dict from field names |
//! | a unit variant | str: its name |
//! | any other variant | dict of one entry: its name, and its contents as above |
//! | [`Value`](crate::Value), [`ChannelId`](crate::ChannelId) | what they stand for |
//!
//! The other way it is the same table, and more lenient where nothing gets lost: tuples, lists, sets and frozensets are read into
//! any sequence, tuple or set; bytes are read into a sequence of `u8` too; an int is read into a float that can hold it exactly; keys of a dict
//! that a struct has no field for are skipped, unless it says otherwise. Complex numbers, channels and ints beyond 128 bits
//! are read into a [`Value`](crate::Value) only, channels into a [`ChannelId`](crate::ChannelId) as well.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use farexec_proto::encoding::StringCoercion;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Debug, PartialEq)]
//! struct Job {
//!     command: Vec<String>,
//!     env: BTreeMap<String, String>,
//!     timeout: Option<f64>,
//! }
//!
//! let job = Job { command: vec!["make".into()], env: BTreeMap::new(), timeout: Some(1.5) };
//! let mut payload = Vec::new();
//! let encoding = farexec_proto::serde::encode(&job, &mut payload)?;
//! let coercion = StringCoercion::default();
//! assert_eq!(farexec_proto::serde::from_payload::<Job>(encoding, &payload, coercion)?, job);
//!
//! let error = farexec_proto::Value::from([("command", vec!["make"]), ("env", vec![])]).decode::<Job>();
//! assert_eq!(
//!     error.unwrap_err().to_string(),
//!     "cannot decode data['env']: invalid type: sequence, expected a map",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arena;
mod de;
mod entry;
mod marker;
mod ser;
mod value;

pub use entry::{AsItem, encode, from_payload, from_value, to_value};
