//! Prints values as Python's `repr` does.

use std::fmt::{self, Display, Formatter, Write};

use super::Value;

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(value) => f.write_str(if *value { "True" } else { "False" }),
            Self::Int(value) => Display::fmt(value, f),
            Self::BigInt(value) => Display::fmt(value, f),
            Self::Float(value) => f.write_str(&float(*value)),
            Self::Complex(real, imaginary) => complex(*real, *imaginary, f),
            Self::Str(value) => str(value, f),
            Self::Bytes(value) => bytes(value, f),
            Self::Tuple(items) if items.len() == 1 => write!(f, "({},)", items[0]),
            Self::Tuple(items) => sequence("(", items, ")", f),
            Self::List(items) => sequence("[", items, "]", f),
            Self::Dict(entries) => dict(entries, f),
            Self::Set(items) if items.is_empty() => f.write_str("set()"),
            Self::Set(items) => sequence("{", items, "}", f),
            Self::FrozenSet(items) if items.is_empty() => f.write_str("frozenset()"),
            Self::FrozenSet(items) => sequence("frozenset({", items, "})", f),
            Self::Channel(id) => write!(f, "<Channel id={id}>"),
        }
    }
}

fn sequence(open: &str, items: &[Value], close: &str, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        Display::fmt(item, f)?;
    }
    f.write_str(close)
}

fn dict(entries: &[(Value, Value)], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('{')?;
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{key}: {value}")?;
    }
    f.write_char('}')
}

/// The shortest digits that mean the same float, with an exponent where Python has one.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

fn complex(real: f64, imaginary: f64, f: &mut Formatter<'_>) -> fmt::Result {
    let part = |value: f64| {
        let text = float(value);
        text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
    };
    let (re, im) = (part(real), part(imaginary));
    if real == 0.0 && real.is_sign_positive() {
        return write!(f, "{im}j");
    }
    let plus = if im.starts_with('-') { "" } else { "+" };
    write!(f, "({re}{plus}{im}j)")
}

fn str(value: &str, f: &mut Formatter<'_>) -> fmt::Result {
    let quote = if value.contains('\'') && !value.contains('"') { '"' } else { '\'' };
    f.write_char(quote)?;
    for char in value.chars() {
        match char {
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            char if char == quote => write!(f, "\\{char}")?,
            char if char == ' ' || !(char.is_control() || char.is_whitespace()) => f.write_char(char)?,
            char if u32::from(char) <= 0xff => write!(f, "\\x{:02x}", u32::from(char))?,
            char if u32::from(char) <= 0xffff => write!(f, "\\u{:04x}", u32::from(char))?,
            char => write!(f, "\\U{:08x}", u32::from(char))?,
        }
    }
    f.write_char(quote)
}

fn bytes(value: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    let quote = if value.contains(&b'\'') && !value.contains(&b'"') { '"' } else { '\'' };
    write!(f, "b{quote}")?;
    for byte in value {
        match byte {
            b'\\' => f.write_str("\\\\")?,
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            byte if char::from(*byte) == quote => write!(f, "\\{quote}")?,
            b' '..=b'~' => f.write_char(char::from(*byte))?,
            byte => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_python_prints_them() {
        let cases = [
            (Value::Float(1.0), "1.0"),
            (Value::Float(-0.0), "-0.0"),
            (Value::Float(1e16), "1e+16"),
            (Value::Float(123_456_789_012_345.6), "123456789012345.6"),
            (Value::Float(1.5e-5), "1.5e-05"),
            (Value::Float(0.0001), "0.0001"),
            (Value::Float(1e300), "1e+300"),
            (Value::Float(f64::NEG_INFINITY), "-inf"),
            (Value::Complex(0.0, 1.0), "1j"),
            (Value::Complex(-0.0, 1.5), "(-0+1.5j)"),
            (Value::Complex(1.0, -2.0), "(1-2j)"),
            (Value::Complex(1.0, f64::NAN), "(1+nanj)"),
            (Value::from("a'b"), "\"a'b\""),
            (Value::from("a'\"\n\u{1}\u{2028}\u{e9}"), "'a\\'\"\\n\\x01\\u2028\u{e9}'"),
            (Value::from(&b"a\x00\xff'"[..]), "b\"a\\x00\\xff'\""),
            (Value::Tuple(vec![]), "()"),
            (Value::Tuple(vec![Value::from(1)]), "(1,)"),
            (Value::List(vec![Value::None, Value::Bool(true)]), "[None, True]"),
            (Value::from([("a", 1), ("b", 2)]), "{'a': 1, 'b': 2}"),
            (Value::Set(vec![]), "set()"),
            (Value::FrozenSet(vec![Value::from(1)]), "frozenset({1})"),
            (Value::from(1u128 << 70), "1180591620717411303424"),
        ];
        for (value, text) in cases {
            assert_eq!(value.to_string(), text);
        }
    }
}
