//! What makes a later run the same as one whose journal is there: the same function, and at each position the same item.

use farexec_proto::encoding::{StringCoercion, dump};
use farexec_proto::{Encoding, Value};
use sha2::{Digest as _, Sha256};

use super::MapOptions;
use super::farm::Task;
use crate::function::Function;

/// Enough of a hash to tell items apart.
pub(super) type Digest = [u8; 16];

/// How an item is known again.
///
/// The elements of sets have no order, and come in another one in every interpreter: they are sorted for this.
pub(super) fn digest(task: &Task) -> Digest {
    let mut hash = Sha256::new();
    match sorted(task) {
        Some(bytes) => hash.update(bytes),
        None => hash.update(&task.bytes),
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

/// An item with its sets in order, if it has any.
fn sorted(task: &Task) -> Option<Vec<u8>> {
    /// The opcodes of `EMPTY_SET` and FROZENSET: without these bytes in it, it has no set. The dump format is rare here.
    const SETS: [u8; 2] = [0x8f, 0x91];
    if task.encoding == Encoding::Message && !task.bytes.iter().any(|byte| SETS.contains(byte)) {
        return None;
    }
    let mut value = Value::from_payload(task.encoding, &task.bytes, StringCoercion::default()).ok()?;
    if !sort_sets(&mut value) && task.encoding == Encoding::Message {
        return None;
    }
    dumped(&value)
}

fn dumped(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    dump::encode(value, &mut bytes).ok()?;
    Some(bytes)
}

/// Returns whether there are any.
fn sort_sets(value: &mut Value) -> bool {
    let (parts, is_set) = match value {
        Value::Tuple(parts) | Value::List(parts) => (parts.iter_mut().collect(), false),
        Value::Dict(entries) => {
            (entries.iter_mut().flat_map(|(key, value)| [key, value]).collect::<Vec<_>>(), false)
        }
        Value::Set(parts) | Value::FrozenSet(parts) => (parts.iter_mut().collect(), true),
        _ => return false,
    };
    let within = parts.into_iter().filter_map(|part| sort_sets(part).then_some(())).count();
    if let Value::Set(parts) | Value::FrozenSet(parts) = value {
        parts.sort_by_cached_key(dumped);
    }
    is_set || within > 0
}

/// What a journal says of its function. Where its text stands in a file means nothing.
pub(super) fn of_run(function: &Function, options: &MapOptions) -> Value {
    let (from, text, call) = match function {
        Function::Text { source, call, .. } => ("source", source, call),
        Function::Imported { module, call } => ("module", module, call),
    };
    let entry = |key: &str, value: Value| (Value::from(key), value);
    Value::Dict(vec![
        entry("call", call.as_str().into()),
        entry(from, text.as_str().into()),
        entry("star", options.star.into()),
    ])
}

/// What is different in two runs, if anything is.
pub(super) fn difference(then: &Value, now: &Value) -> Option<String> {
    if then == now {
        return None;
    }
    let name = |run: &Value| match (text(run, "module"), text(run, "call")) {
        (Some(module), Some(call)) => format!("{module}:{call}"),
        (None, Some(call)) => call.to_owned(),
        _ => "none".to_owned(),
    };
    if name(then) != name(now) {
        return Some(format!("it was begun with {}, and this is {}", name(then), name(now)));
    }
    if let (Some(old), Some(new)) = (text(then, "source"), text(now, "source"))
        && old != new
    {
        let (mut old, mut new) = (old.lines(), new.lines());
        for number in 1.. {
            let (old, new) = (old.next(), new.next());
            if old != new {
                let shown =
                    |line: Option<&str>| line.map_or("nothing".into(), |line| format!("`{}`", line.trim()));
                let (old, new) = (shown(old), shown(new));
                return Some(format!(
                    "{} has changed: line {number} of it was {old}, and is {new}",
                    name(now)
                ));
            }
        }
    }
    Some("its items were one argument each, and are several now, or the other way round".into())
}

fn text<'v>(run: &'v Value, key: &str) -> Option<&'v str> {
    let Value::Dict(entries) = run else { return None };
    entries.iter().find_map(|entry| match entry {
        (Value::Str(name), Value::Str(text)) if name == key => Some(text.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::farm::Farm;

    fn digest_of(value: &Value) -> Digest {
        let mut farm = Farm::new(MapOptions::default());
        digest(&farm.task(value).unwrap())
    }

    /// An item with a set of strings was refused as another one by the next run, whose hashes had another seed.
    #[test]
    fn the_order_in_sets_means_nothing_and_any_other_something() {
        let [a, b] = ["a", "b"].map(Value::from);
        let set = |first: &Value, second: &Value| {
            Value::List(vec![Value::Set(vec![first.clone(), second.clone()])])
        };
        assert_eq!(digest_of(&set(&a, &b)), digest_of(&set(&b, &a)));
        let frozen = |first: &Value, second: &Value| Value::FrozenSet(vec![first.clone(), second.clone()]);
        let nested = |value: Value| Value::Dict(vec![(value, Value::Complex(1.0, 2.0))]);
        assert_eq!(digest_of(&nested(frozen(&a, &b))), digest_of(&nested(frozen(&b, &a))));
        assert_ne!(digest_of(&frozen(&a, &b)), digest_of(&set(&a, &b)));
        let list = |first: &Value, second: &Value| Value::List(vec![first.clone(), second.clone()]);
        assert_ne!(digest_of(&list(&a, &b)), digest_of(&list(&b, &a)));
        assert_ne!(digest_of(&Value::from(1)), digest_of(&Value::from(true)));
        assert_ne!(digest_of(&Value::from("a")), digest_of(&Value::Bytes(b"a".to_vec())));
    }

    #[test]
    fn what_differs_is_named() {
        let run = |source: &str, call: &str| {
            let function = Function::Text {
                source: source.into(),
                file: Some("here.py".into()),
                line: 7,
                call: call.into(),
            };
            of_run(&function, &MapOptions::default())
        };
        let then = run("def f(x):\n    return x\n", "f");
        assert_eq!(difference(&then, &then), None);
        let now = run("def f(x):\n    return -x\n", "f");
        let text = difference(&then, &now).unwrap();
        assert_eq!(text, "f has changed: line 2 of it was `return x`, and is `return -x`");
        assert!(
            difference(&then, &run("def g(x): pass", "g")).unwrap().contains("begun with f, and this is g")
        );
        let function = Function::Imported { module: "math".into(), call: "sqrt".into() };
        let imported = of_run(&function, &MapOptions::default());
        assert!(difference(&then, &imported).unwrap().contains("this is math:sqrt"));
        let star = of_run(&function, &MapOptions { star: true, ..MapOptions::default() });
        assert!(difference(&imported, &star).unwrap().contains("several"));
    }
}
