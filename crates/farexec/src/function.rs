//! What is called at a worker: a function that some text defines, or one that workers can import.

use std::str::FromStr;

use farexec_proto::Value;

/// A function to call at a worker.
///
/// ```
/// use farexec::Function;
///
/// let imported: Function = "os.path:join".parse()?;
/// let defined = Function::text("def double(x): return 2 * x", "double");
/// # let _ = (imported, defined);
/// # Ok::<(), farexec::FunctionError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// A function that some source text defines.
    Text {
        /// The text.
        source: String,
        /// The file that tracebacks name.
        file: Option<String>,
        /// The number of its first line.
        line: u32,
        /// The function's name.
        call: String,
    },
    /// A function that workers can import.
    Imported {
        /// The module.
        module: String,
        /// The function's name in it.
        call: String,
    },
}

/// A text that names no function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a function has the form module:name, not `{0}`")]
pub struct FunctionError(pub String);

impl Function {
    /// The function of that name which `source` defines.
    pub fn text(source: impl Into<String>, call: impl Into<String>) -> Self {
        Self::Text { source: source.into(), file: None, line: 1, call: call.into() }
    }

    /// The function's own name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Text { call, .. } | Self::Imported { call, .. } => call,
        }
    }

    /// As workers are told: a dict as EXECUTE has it, or with a module.
    pub(crate) fn to_value(&self) -> Value {
        let entry = |key: &str, value: Value| (Value::from(key), value);
        Value::Dict(match self {
            Self::Text { source, file, line, call } => vec![
                entry("source", source.as_str().into()),
                entry("file", file.clone().into()),
                entry("line", (*line).into()),
                entry("call", call.as_str().into()),
            ],
            Self::Imported { module, call } => {
                vec![entry("module", module.as_str().into()), entry("call", call.as_str().into())]
            }
        })
    }
}

impl FromStr for Function {
    type Err = FunctionError;

    fn from_str(name: &str) -> Result<Self, FunctionError> {
        match name.split_once(':') {
            Some((module, call)) if !module.is_empty() && !call.is_empty() => {
                Ok(Self::Imported { module: module.into(), call: call.into() })
            }
            _ => Err(FunctionError(name.into())),
        }
    }
}

impl TryFrom<&str> for Function {
    type Error = FunctionError;

    fn try_from(name: &str) -> Result<Self, FunctionError> {
        name.parse()
    }
}
