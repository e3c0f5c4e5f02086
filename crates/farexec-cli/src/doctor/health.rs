//! The steps from the worker's start to its end.

use farexec::{ReceiveError, Value, Wait};

use super::{Examination, Found, Over, advice};
use crate::exit::{self, with_sources};
use crate::status;

/// Where the worker is, and what it may do there: working directory, writable, on a disk that is read-only, and whether there is a home.
const PLACE: &str = r#"
import os
here = os.getcwd()
try:
    read_only = bool(os.statvfs(here).f_flag & 1)
except Exception:
    read_only = False
home = os.path.expanduser("~")
channel.send((here, os.access(here, os.W_OK), read_only, home, os.path.isdir(home)))
"#;

pub(super) fn steps(examination: &mut Examination<'_>) -> Result<(), Over> {
    let is_asked = || examination.stop.is_asked();
    let wait = Wait::forever().unless(&is_asked);
    let spec = &examination.spec;
    let ran = spec.command_line().unwrap_or_default();
    let gateway = examination.step("worker", Some(ran.trim_matches('`')), || {
        match examination.group.start_each(vec![spec.clone()], &wait).pop() {
            Some(Ok(gateway)) => {
                let hello = gateway.hello();
                let native = if hello.worker == "native" { "native" } else { "in Python" };
                let text = format!("{native}, {}, pid {}", status::python(&hello), hello.pid);
                (Found::Well(text), Some(gateway))
            }
            Some(Err(error)) => {
                let (said, to_do, code) =
                    (with_sources(&error), advice::start(&error), exit::start_code(&error));
                (Found::Bad { said, to_do, code }, None)
            }
            None => (Found::bad("nothing was started", "try again"), None),
        }
    })?;
    let Some(gateway) = gateway else { return Ok(()) };
    let lost = |said: String| {
        let to_do = "the worker started, and is gone: its last words say why".into();
        Found::Bad { said, to_do, code: exit::LOST }
    };
    let place = examination.step("first result", None, || {
        let received = gateway
            .remote_exec(PLACE)
            .map_err(|error| error.to_string())
            .and_then(|channel| {
                channel.receive_payload(&wait).map_err(|error: ReceiveError| error.to_string())
            })
            .and_then(|payload| payload.value().map_err(|error| error.to_string()));
        match received {
            Ok(Value::Tuple(place)) => (Found::Well("an execution and its result".into()), Some(place)),
            Ok(other) => (lost(format!("not what was asked for: {other}")), None),
            Err(said) => (lost(said), None),
        }
    })?;
    if let Some(place) = place {
        for found in directory(&place) {
            examination.remark("directory", &found)?;
        }
    }
    examination.step("round trip", None, || match status::round_trip(&gateway, examination.stop) {
        Ok(time) => {
            (Found::Well(format!("{:.3} ms, the median of several", time.as_secs_f64() * 1e3)), None::<()>)
        }
        Err(said) => (lost(said), None),
    })?;
    Ok(())
}

/// What is strange about where the worker is, or that nothing is.
fn directory(place: &[Value]) -> Vec<Found> {
    let [
        Value::Str(here),
        Value::Bool(is_writable),
        Value::Bool(is_read_only),
        Value::Str(home),
        Value::Bool(has_home),
    ] = place
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if *is_read_only {
        let to_do = "code that writes needs another directory: say which by `chdir=`";
        found.push(Found::strange(format!("starts in {here}, on a disk that is read-only"), to_do));
    } else if !is_writable {
        let to_do = "code that writes needs another directory: say which by `chdir=`";
        found.push(Found::strange(format!("starts in {here}, where this user may not write"), to_do));
    }
    if !has_home {
        let to_do = "programs that keep settings there may fail: make it, or set `env:HOME=`";
        found.push(Found::strange(format!("the home directory {home} is not there"), to_do));
    }
    if found.is_empty() {
        found.push(Found::Well(format!("starts in {here}")));
    }
    found
}
