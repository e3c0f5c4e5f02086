//! What is executed: source text, a file, or a function in a file.

use std::path::Path;

use farexec_proto::Value;
use farexec_proto::encoding::{Emit, Encode, EncodeError};

use crate::error::ExecError;

/// Python code to execute at a worker, where `channel` is the channel that the execution returns.
///
/// ```
/// use farexec::Source;
///
/// let source = Source::text("channel.send(x + 1)").with("x", 41);
/// # let _ = source;
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    text: Text,
    call: Option<String>,
    kwargs: Vec<(String, Value)>,
    beside: bool,
    part: Option<&'static str>,
    max_pending: Option<u32>,
}

#[derive(Clone, Debug)]
enum Text {
    Given { source: String, file: Option<String>, line: u32 },
    File(String),
}

impl Source {
    /// Source text. What it is indented by as a whole is taken off.
    pub fn text(source: impl AsRef<str>) -> Self {
        let source = dedent(source.as_ref());
        Self {
            text: Text::Given { source, file: None, line: 1 },
            call: None,
            kwargs: Vec::new(),
            beside: false,
            part: None,
            max_pending: None,
        }
    }

    /// A file on this machine, executed as it is.
    ///
    /// ```
    /// use farexec::Source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("greet.py");
    /// # std::fs::write(&path, "channel.send('hello')")?;
    /// let channel = group.make_gateway("popen")?.remote_exec(Source::file(&path))?;
    /// assert_eq!(channel.receive::<String>()?, "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_string_lossy().into_owned();
        Self {
            text: Text::File(path),
            call: None,
            kwargs: Vec::new(),
            beside: false,
            part: None,
            max_pending: None,
        }
    }

    /// A function in a file on this machine: the file is executed there, then the function is called with the
    /// channel as its first argument.
    ///
    /// ```
    /// use farexec::Source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shapes.py");
    /// # std::fs::write(&path, "def area(channel, width, height): channel.send(width * height)")?;
    /// let area = Source::function(&path, "area").with("width", 6).with("height", 7);
    /// let channel = group.make_gateway("popen")?.remote_exec(area)?;
    /// assert_eq!(channel.receive::<i64>()?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn function(path: impl AsRef<Path>, name: impl Into<String>) -> Self {
        Self { call: Some(name.into()), ..Self::file(path) }
    }

    /// Says where the text comes from, so that tracebacks name the real file and line.
    ///
    /// ```
    /// use farexec::{ReceiveError, Source};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let text = Source::text("1 / 0").at("generated/step.py", 7);
    /// let channel = group.make_gateway("popen")?.remote_exec(text)?;
    /// let Err(ReceiveError::Remote(error)) = channel.receive::<()>() else { panic!() };
    /// let frame = error.frames().last().ok_or("there is a frame")?;
    /// assert_eq!((frame.file.as_str(), frame.line), ("generated/step.py", 7));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, line: u32) -> Self {
        if let Text::Given { file: known, line: first, .. } = &mut self.text {
            *known = Some(file.into());
            *first = line;
        }
        self
    }

    /// Has this function, which the source defines, called with the channel as its first argument.
    #[must_use]
    pub fn call(self, name: impl Into<String>) -> Self {
        Self { call: Some(name.into()), ..self }
    }

    /// Adds a keyword argument of the function; without a function, a global name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.push((name.into(), value.into()));
        self
    }

    /// Has it executed in a thread of its own, whatever the worker's execution model: for what serves, and leaves the main
    /// thread to others.
    #[must_use]
    pub fn beside(self) -> Self {
        Self { beside: true, ..self }
    }

    /// Says which part of farexec it is, for workers that have it already.
    pub(crate) fn part(self, name: &'static str) -> Self {
        Self { part: Some(name), ..self }
    }

    /// Bounds what waits at the receivers of its channel, here and there: a sender that is so many items ahead of what was received
    /// waits. At least 1. Without it, or if the worker is of an older version, nothing is bounded.
    ///
    /// ```
    /// use farexec::Source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let endless = Source::text("import itertools\nfor n in itertools.count(): channel.send(n)").max_pending(10);
    /// let channel = group.make_gateway("popen")?.remote_exec(endless)?; // never more than ten of them are here
    /// assert_eq!(channel.iter::<u64>().take(3).collect::<Result<Vec<_>, _>>()?, [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_pending(self, items: u32) -> Self {
        Self { max_pending: Some(items.max(1)), ..self }
    }

    /// Reads what has to be read, so that it is read once for a whole group.
    pub(crate) fn request(&self) -> Result<Request<'_, Vec<(String, Value)>>, ExecError> {
        let (source, file, line) = match &self.text {
            Text::Given { source, file, line } => (source.clone(), file.clone(), *line),
            Text::File(path) => {
                let read = std::fs::read_to_string(path);
                let source = read.map_err(|source| ExecError::Read { path: path.clone(), source })?;
                let full = std::fs::canonicalize(path).map(|full| full.to_string_lossy().into_owned());
                (source, Some(full.unwrap_or_else(|_| path.clone())), 1)
            }
        };
        Ok(Request {
            source,
            file,
            line,
            call: self.call.as_deref(),
            kwargs: &self.kwargs,
            beside: self.beside,
            part: self.part,
            max_pending: self.max_pending,
        })
    }
}

impl From<&str> for Source {
    fn from(source: &str) -> Self {
        Self::text(source)
    }
}

/// The payload of an EXECUTE frame. The keyword arguments may be of any object model: they encode as a dict.
///
/// ```
/// use farexec::{Request, Value};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let kwargs = vec![("items".to_owned(), Value::from(vec![Value::from(1), Value::from("b")]))];
/// let request = Request {
///     source: "def count(channel, items): channel.send(len(items))".into(),
///     file: None,
///     line: 1,
///     call: Some("count"),
///     kwargs: &kwargs,
///     beside: false,
///     part: None,
///     max_pending: None,
/// };
/// let channel = group.make_gateway("popen")?.execute(&request)?;
/// assert_eq!(channel.receive::<usize>()?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Request<'a, K> {
    /// The source text.
    pub source: String,
    /// The file that tracebacks name.
    pub file: Option<String>,
    /// The number of the first line.
    pub line: u32,
    /// The function to call.
    pub call: Option<&'a str>,
    /// Its keyword arguments.
    pub kwargs: &'a K,
    /// Whether it gets a thread of its own, whatever the execution model.
    pub beside: bool,
    /// Which part of farexec it is, if it is one.
    pub part: Option<&'static str>,
    /// How many items may wait at either end of its channel; see [`Source::max_pending`].
    pub max_pending: Option<u32>,
}

impl<K> Request<'_, K> {
    /// What to call it before people.
    pub(crate) fn name(&self) -> String {
        self.call.or(self.file.as_deref()).unwrap_or("execution").to_owned()
    }
}

impl<K: Kwargs> Encode for Request<'_, K> {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        let entries = 5 + usize::from(self.beside) + usize::from(self.part.is_some());
        emit.begin_dict(entries)?;
        entry(emit, "source", |emit| emit.str(&self.source))?;
        entry(emit, "file", |emit| optional(emit, self.file.as_deref()))?;
        entry(emit, "line", |emit| emit.int(self.line.into()))?;
        entry(emit, "call", |emit| optional(emit, self.call))?;
        entry(emit, "kwargs", |emit| self.kwargs.encode_kwargs(emit))?;
        if self.beside {
            entry(emit, "beside", |emit| emit.bool(true))?;
        }
        if let Some(part) = self.part {
            entry(emit, "part", |emit| emit.str(part))?;
        }
        emit.end_dict(entries)
    }
}

/// What encodes as a dict from names to values.
pub trait Kwargs {
    /// Writes the dict.
    ///
    /// # Errors
    /// [`EncodeError`] if a value cannot be sent.
    fn encode_kwargs<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError>;
}

impl Kwargs for Vec<(String, Value)> {
    fn encode_kwargs<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        emit.begin_dict(self.len())?;
        for (name, value) in self {
            entry(emit, name, |emit| value.encode(emit))?;
        }
        emit.end_dict(self.len())
    }
}

fn entry<E: Emit>(
    emit: &mut E,
    key: &str,
    value: impl FnOnce(&mut E) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    emit.str(key)?;
    value(emit)?;
    emit.dict_entry()
}

fn optional<E: Emit>(emit: &mut E, text: Option<&str>) -> Result<(), EncodeError> {
    match text {
        Some(text) => emit.str(text),
        None => emit.none(),
    }
}

/// Takes off the white space that all lines begin with, as Python's `textwrap.dedent` does, and leading empty lines' worth
/// of nothing else: line numbers stay.
fn dedent(source: &str) -> String {
    let indent = source
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| &line[..line.len() - line.trim_start().len()])
        .reduce(|common, indent| {
            let same = common.bytes().zip(indent.bytes()).take_while(|(a, b)| a == b).count();
            &common[..same]
        })
        .unwrap_or_default();
    if indent.is_empty() {
        return source.to_owned();
    }
    let lines: Vec<&str> = source
        .split('\n')
        .map(|line| line.strip_prefix(indent).unwrap_or_else(|| line.trim_start_matches([' ', '\t'])))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_indentation_is_taken_off_and_line_numbers_stay() {
        assert_eq!(dedent("\n    a\n      b\n\n    c"), "\na\n  b\n\nc");
        assert_eq!(dedent("a\n  b"), "a\n  b");
    }
}
