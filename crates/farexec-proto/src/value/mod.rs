//! [`Value`]: any item that can be sent, for Rust programs that do not know beforehand what they get.

mod build;
mod compare;
mod convert;
mod encode;
mod repr;
mod tree;

pub use build::ValueBuilder;
pub use tree::Value;
