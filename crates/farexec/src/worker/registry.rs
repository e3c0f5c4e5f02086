//! What a Rust program does as a worker: functions by name, with arguments and results of any type that serde knows.

use std::any::type_name;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use farexec_proto::control::ErrorReport;
use farexec_proto::encoding::DecodeError;
use farexec_proto::serde::{AsItem, from_value, to_value};
use farexec_proto::{Value, encoding::Encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, SendError};
use crate::payload::Payload;
use crate::wait::Wait;

type Function = Box<dyn Fn(&Value) -> Result<Value, ErrorReport> + Send + Sync>;
type ChannelFunction = Box<dyn Fn(Channel, &Value) -> Result<(), ErrorReport> + Send + Sync>;

/// The functions that a program has as a worker, by their names: what [`serve`](super::serve) is given.
///
/// ```
/// use farexec::worker::Registry;
/// use farexec::{Channel, SendError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #[derive(serde::Deserialize)]
/// struct Echo {
///     times: usize,
/// }
///
/// let registry = Registry::new()
///     .function("numbers:hypot", |(a, b): (f64, f64)| Ok::<_, String>(a.hypot(b)))
///     .function("numbers:parse", |(text,): (String,)| text.parse::<i64>())
///     .channel_function("echo", |channel: Channel, echo: Echo| -> Result<(), Box<dyn std::error::Error>> {
///         let item: String = channel.receive()?;
///         Ok(channel.send(&item.repeat(echo.times))?)
///     });
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Registry {
    functions: BTreeMap<String, Function>,
    channel_functions: BTreeMap<String, ChannelFunction>,
}

/// What is of interest of an EXECUTE.
#[derive(Deserialize)]
#[serde(default)]
struct Request {
    source: String,
    part: String,
    call: Option<String>,
    kwargs: Value,
}

impl Default for Request {
    fn default() -> Self {
        Self { source: String::new(), part: String::new(), call: None, kwargs: Value::None }
    }
}

/// A function as `call` and `map` name it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    module: String,
    call: String,
    source: Option<String>,
}

/// What `map` says at its beginning.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MapRequest {
    function: Option<Named>,
    star: bool,
    initializer: Option<Value>,
}

impl Registry {
    /// A registry without functions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function, which `call` and `map` find by this name: of the form `module:function`, as those of Python.
    ///
    /// Its arguments are a tuple; an error comes to the caller as a `RemoteError` with the name of the type and the text, and so does a
    /// panic.
    #[must_use]
    pub fn function<A, T, E>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(A) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        T: Serialize,
        E: Display,
    {
        let function = move |arguments: &Value| {
            let arguments = arguments_from(arguments).map_err(|error| report("TypeError", &error))?;
            let result = function(arguments).map_err(|error| report(type_name::<E>(), &error))?;
            to_value(&result).map_err(|error| report("DumpError", &error))
        };
        self.functions.insert(name.into(), Box::new(function));
        self
    }

    /// Adds a function that gets a channel, which `remote_exec` finds by this name as its source text. Its arguments are a struct with the
    /// names of the keyword arguments; the channel is closed when it returns, with its error if it has one.
    #[must_use]
    pub fn channel_function<A, E>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(Channel, A) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        E: Display,
    {
        let function = move |channel, arguments: &Value| {
            let arguments = from_value(arguments).map_err(|error| report("TypeError", &error))?;
            function(channel, arguments).map_err(|error| report(type_name::<E>(), &error))
        };
        self.channel_functions.insert(name.into(), Box::new(function));
        self
    }

    /// Does what an EXECUTE asks for.
    pub(super) fn execute(&self, channel: &Channel, request: &Payload) -> Result<(), ErrorReport> {
        let request: Request =
            request.decode().map_err(|error| said(format!("cannot read what to execute: {error}")))?;
        match request.part.as_str() {
            "" => self.run(channel, &request),
            "calls" => {
                self.answer_calls(channel);
                Ok(())
            }
            "map" => self.map(channel, &request),
            part => Err(said(format!("a worker that is a Rust program has no {part}"))),
        }
    }

    fn run(&self, channel: &Channel, request: &Request) -> Result<(), ErrorReport> {
        let name = request.source.trim();
        match self.channel_functions.get(name) {
            Some(function) if request.call.is_none() => {
                guarded(|| function(channel.clone(), &request.kwargs))
            }
            _ => Err(said(format!(
                "this worker is a Rust program, and executes no Python; the text can be the name of a function that gets a channel: {}",
                names(&self.channel_functions)
            ))),
        }
    }

    /// As `answer` in `mapper.py`, until the channel ends.
    fn answer_calls(&self, channel: &Channel) {
        let mut functions = HashMap::new();
        while let Ok(Value::Tuple(parts)) = channel.receive::<Value>() {
            match parts.as_slice() {
                [Value::Int(number), definition] => {
                    functions.insert(*number, self.find(from_value(definition).unwrap_or_default()));
                }
                [Value::Int(number), arguments, keywords] => {
                    let result = match functions.get(number) {
                        Some(Ok(_)) if *keywords != Value::None => Err(report(
                            "TypeError",
                            &"a function of a Rust program has no arguments with names",
                        )),
                        Some(Ok(function)) => guarded(|| function(arguments)),
                        Some(Err(error)) => Err(error.clone()),
                        None => Err(said("this function was not sent before".into())),
                    };
                    if answer(channel, result).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// As `serve` in `mapper.py`.
    fn map(&self, channel: &Channel, request: &Request) -> Result<(), ErrorReport> {
        let request: MapRequest =
            from_value(&request.kwargs).map_err(|error| said(format!("cannot read what to map: {error}")))?;
        let named = match (request.function, request.initializer) {
            (Some(named), None) => named,
            (Some(_), Some(_)) => {
                return Err(said("a worker that is a Rust program calls no initializer".into()));
            }
            (None, _) => {
                return Err(said("a worker that is a Rust program does nothing for executors".into()));
            }
        };
        let function = self.find(named)?;
        while let Ok(item) = channel.receive::<Value>() {
            let arguments = if request.star { item } else { Value::Tuple(vec![item]) };
            if answer(channel, guarded(|| function(&arguments))).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn find(&self, named: Named) -> Result<&Function, ErrorReport> {
        let name = format!("{}:{}", named.module, named.call);
        match self.functions.get(&name) {
            Some(function) => Ok(function),
            None if named.source.is_some() => Err(said(format!(
                "this worker is a Rust program, and calls no Python; its functions are {}",
                names(&self.functions)
            ))),
            None => Err(report(
                "LookupError",
                &format!("there is no function `{name}`; there are {}", names(&self.functions)),
            )),
        }
    }
}

fn names<T>(functions: &BTreeMap<String, T>) -> String {
    if functions.is_empty() {
        return "none".into();
    }
    functions.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Arguments that came as a list or tuple, or as None if there are none.
fn arguments_from<A: DeserializeOwned>(arguments: &Value) -> Result<A, DecodeError> {
    let is_empty = match arguments {
        Value::Tuple(items) | Value::List(items) => items.is_empty(),
        _ => *arguments == Value::None,
    };
    from_value(arguments).or_else(|error| if is_empty { from_value(&Value::None) } else { Err(error) })
}

/// Answers as `mapper.py` does: with a tuple that has the result in it, or a dict that describes an error.
fn answer(channel: &Channel, result: Result<Value, ErrorReport>) -> Result<(), SendError> {
    match result {
        Ok(result) => match send(channel, &Value::Tuple(vec![result])) {
            Err(error @ (SendError::Encode(_) | SendError::TooLong(_))) => {
                send(channel, &AsItem(&report("DumpError", &error)))
            }
            sent => sent,
        },
        Err(report) => send(channel, &AsItem(&report)),
    }
}

fn send(channel: &Channel, item: &impl Encode) -> Result<(), SendError> {
    channel.reserve(&Wait::forever())?;
    if channel.start_sending(item)? { channel.finish_sending(&Wait::forever()) } else { Ok(()) }
}

/// A panic of the program's code is an error like others.
fn guarded<T>(call: impl FnOnce() -> Result<T, ErrorReport>) -> Result<T, ErrorReport> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(report("panic", &text.unwrap_or_default()))
    })
}

fn report(kind: &str, error: &impl Display) -> ErrorReport {
    let message = error.to_string();
    ErrorReport { text: format!("{kind}: {message}"), r#type: kind.into(), message, ..ErrorReport::default() }
}

fn said(text: String) -> ErrorReport {
    ErrorReport { text, ..ErrorReport::default() }
}
