//! Secrets that this side knows: from a file that nobody else may read, or from the environment. Never from a spec, which is shown in
//! messages, and never from a command line, which everybody on a machine sees.

use std::fs::File;
use std::io::{self, Read};

use crate::spec::{Spec, SpecError};
use crate::sys;

/// Where the secret is if no file is named.
const SECRET_VARIABLE: &str = "FAREXEC_SECRET";

/// The secret that a spec's server shares: in the file that it names, or in the variable.
pub(super) fn known_here(spec: &Spec) -> Result<String, SpecError> {
    let found = match &spec.secret_file {
        Some(path) => read(path).map_err(|error| spec.bad("secret_file", path, &error))?,
        None => std::env::var(SECRET_VARIABLE).unwrap_or_default(),
    };
    let secret = found.trim();
    match &spec.secret_file {
        _ if !secret.is_empty() => Ok(secret.to_owned()),
        Some(path) => Err(spec.bad("secret_file", path, &"the file is empty")),
        None => {
            let reason = format!(
                "the server wants a secret: name its file by `secret_file=`, or set {SECRET_VARIABLE}"
            );
            Err(spec.bad("socket", spec.value("socket"), &reason))
        }
    }
}

fn read(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    if let Some(reason) = sys::why_not_private(&file)? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}
