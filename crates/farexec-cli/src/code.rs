//! What workers execute: a file, text, or a function, as the command line names it.

use std::path::Path;

use farexec::{Function, Source, Value};

use crate::exit::Failure;
use crate::json;

/// Calls a function and answers with what it returns.
const RUNNER: &str = concat!(include_str!("mapper.py"), "\n\n", include_str!("runner.py"));

/// What stands in tracebacks for the file of a text from the command line.
const COMMAND_LINE: &str = "<-c>";

/// What is executed once at each worker, and how its answers are to be read.
pub(crate) struct Code {
    pub(crate) source: Source,
    /// Whether each item is an answer of runner.py, and not the code's own.
    pub(crate) answers: bool,
    /// What may surprise whoever wrote it.
    pub(crate) note: Option<String>,
}

/// A function, as it was named.
enum Name<'a> {
    In { file: &'a str, function: &'a str },
    Imported { module: &'a str, function: &'a str },
}

impl Code {
    /// Text, in which `channel` and the arguments are global names.
    pub(crate) fn text(text: &str, arguments: Vec<(String, Value)>) -> Self {
        Self::of(Source::text(text).at(COMMAND_LINE, 1), arguments)
    }

    /// What a word names: FILE, FILE:FUNCTION or MODULE:FUNCTION. A function whose first parameter is `channel` gets it, and what it sends
    /// are the results; of any other the result is what it returns.
    pub(crate) fn named(word: &str, arguments: Vec<(String, Value)>) -> Result<Self, Failure> {
        let Some(name) = Name::of(word)? else {
            let note = has_main_guard(&read(word)?).then(|| {
                format!("{word}: at a worker `__name__` is `__channelexec__`, so what is behind `if __name__ == \"__main__\"` is left out")
            });
            return Ok(Self { note, ..Self::of(Source::file(word), arguments) });
        };
        if let Name::In { file, function } = name
            && takes_channel(&read(file)?, function)
        {
            return Ok(Self::of(Source::function(file, function), arguments));
        }
        let function = match name.function()? {
            Function::Text { source, file, line, call } => Value::Dict(vec![
                ("source".into(), source.into()),
                ("file".into(), file.into()),
                ("line".into(), line.into()),
                ("call".into(), call.into()),
            ]),
            Function::Imported { module, call } => Value::from([("module", module), ("call", call)]),
        };
        let arguments = arguments.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let source = Source::text(RUNNER).at("<farexec runner>", 1).call("run");
        Ok(Self {
            source: source.with("function", function).with("arguments", Value::Dict(arguments)),
            answers: true,
            note: None,
        })
    }

    /// Code whose items are the results.
    fn of(source: Source, arguments: Vec<(String, Value)>) -> Self {
        let source = arguments.into_iter().fold(source, |source, (name, value)| source.with(name, value));
        Self { source, answers: false, note: None }
    }
}

/// The function that a word names: FILE:FUNCTION or MODULE:FUNCTION.
pub(crate) fn function(word: &str) -> Result<Function, Failure> {
    match Name::of(word)? {
        Some(name) => name.function(),
        None => Err(Failure::mistake(format!("`{word}` names no function: write {word}:FUNCTION"))),
    }
}

/// An expression with `item` as a function of it, for which these modules are imported.
pub(crate) fn expression(text: &str, modules: &[String]) -> Result<Function, Failure> {
    let is_name = |name: &str| {
        name.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_'))
    };
    if let Some(module) = modules.iter().find(|module| !is_name(module)) {
        return Err(Failure::mistake(format!("`{module}` is no name of a module")));
    }
    let imports: String = modules.iter().map(|module| format!("import {module}; ")).collect();
    // In one line, so that tracebacks have the expression's own; a comment in it ends before the bracket.
    let source = format!("{imports}_call = lambda item: ({text}\n)");
    Ok(Function::Text { source, file: Some(COMMAND_LINE.into()), line: 1, call: "_call".into() })
}

/// `NAME=VALUE`: JSON if it is that, else text.
pub(crate) fn argument(text: &str) -> Result<(String, Value), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("write NAME=VALUE".into());
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !is_name {
        return Err(format!("`{name}` cannot be a name in Python"));
    }
    let value = match serde_json::from_str(value) {
        Ok(value) => json::read(value)?,
        Err(_) => Value::from(value),
    };
    Ok((name.into(), value))
}

fn read(file: &str) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::mistake(format!(
            "cannot read `{file}`: {error}; name a file, FILE:FUNCTION or MODULE:FUNCTION, or give text by -c"
        ))
    })
}

impl<'a> Name<'a> {
    /// `None` if it names a file alone.
    fn of(word: &'a str) -> Result<Option<Self>, Failure> {
        let Some((place, function)) = word.rsplit_once(':') else { return Ok(None) };
        let is_name = function
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_'));
        if place.is_empty() || !is_name {
            return Err(Failure::mistake(format!(
                "`{word}` names no function: write FILE:FUNCTION or MODULE:FUNCTION"
            )));
        }
        Ok(Some(match place.ends_with(".py") || place.contains('/') {
            true => Self::In { file: place, function },
            false => Self::Imported { module: place, function },
        }))
    }

    fn function(self) -> Result<Function, Failure> {
        Ok(match self {
            Self::In { file, function } => {
                let full = Path::new(file).canonicalize().map(|full| full.to_string_lossy().into_owned());
                Function::Text {
                    source: read(file)?,
                    file: Some(full.unwrap_or_else(|_| file.into())),
                    line: 1,
                    call: function.into(),
                }
            }
            Self::Imported { module, function } => {
                Function::Imported { module: module.into(), call: function.into() }
            }
        })
    }
}

/// Whether a part of the source is for those who run it as a program.
fn has_main_guard(source: &str) -> bool {
    source.lines().any(|line| line.starts_with("if __name__ ==") && line.contains("__main__"))
}

/// Whether a function that the source defines has `channel` as its first parameter.
fn takes_channel(source: &str, function: &str) -> bool {
    source.lines().any(|line| {
        let parameters =
            line.strip_prefix("def ").map(str::trim_start).and_then(|rest| rest.strip_prefix(function));
        let first =
            parameters.map(str::trim_start).and_then(|rest| rest.strip_prefix('(')).map(str::trim_start);
        let rest = first.and_then(|first| first.strip_prefix("channel"));
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_take_a_channel_are_known_by_their_first_parameter() {
        let source =
            "def f(channel, x): pass\ndef g(channels): pass\ndef h (channel): pass\ndef ff(x, channel): pass";
        assert!(takes_channel(source, "f") && takes_channel(source, "h"));
        assert!(
            !takes_channel(source, "g") && !takes_channel(source, "ff") && !takes_channel(source, "none")
        );
    }

    #[test]
    fn arguments_are_json_or_text() {
        let value = |text: &str| argument(text).unwrap().1.to_string();
        assert_eq!(value("a=1"), "1");
        assert_eq!(value("a=[1, null]"), "[1, None]");
        assert_eq!(value("a=web01=x"), "'web01=x'");
        assert_eq!(value("a="), "''");
        assert!(argument("a").unwrap_err().contains("NAME=VALUE"));
        assert!(argument("1a=2").unwrap_err().contains("cannot be a name"));
        assert!(argument(r#"a={"$set": 1}"#).unwrap_err().contains("an array"));
    }

    #[test]
    fn a_word_that_names_no_function_says_what_to_write() {
        assert!(function("file.py").unwrap_err().to_string().contains("write file.py:FUNCTION"));
        assert!(function(":f").unwrap_err().to_string().contains("MODULE:FUNCTION"));
        assert!(function("no-such-file.py:f").unwrap_err().to_string().contains("cannot read"));
        assert!(matches!(function("math:pow"), Ok(Function::Imported { .. })));
    }
}
