//! Workers of two kinds in one group: Python interpreters, and a Rust program that is this one. Both have a function `geometry:area`, which
//! is called at each, and mapped over many items by whoever has room.
//!
//! `cargo run --example rust_worker`

use std::time::Duration;

use farexec::worker::{Registry, serve};
use farexec::{Channel, Group, MapOptions, SendError};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    by: String,
    area: f64,
}

#[derive(Deserialize)]
struct Range {
    below: u64,
}

fn area((radius,): (f64,)) -> Result<Answer, String> {
    if radius < 0.0 {
        return Err(format!("no circle has a radius of {radius}"));
    }
    Ok(Answer { by: "Rust".into(), area: std::f64::consts::PI * radius * radius })
}

fn count(channel: Channel, range: Range) -> Result<(), SendError> {
    (0..range.below).try_for_each(|number| channel.send(&number))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        let registry = Registry::new().function("geometry:area", area).channel_function("count", count);
        return Ok(serve(registry)?);
    }

    let this_program = std::env::current_exe()?;
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let group = Group::new();
    group.make_gateways([
        format!("command={} worker//id=rust", this_program.display()),
        format!("popen//id=python//env:PYTHONPATH={examples}"),
    ])?;

    for gateway in group.gateways() {
        let answer: Answer = gateway.call("geometry:area", &(1.0,))?;
        println!("{} ({}) says {answer:?}", gateway.id(), gateway.hello().implementation);
    }

    let radii = (0..1000).map(f64::from);
    let answers = group.map::<_, Answer>(&"geometry:area".parse()?, radii, MapOptions::default())?;
    let total: f64 = answers.map(|answer| answer.map(|answer| answer.area)).sum::<Result<_, _>>()?;
    println!("1000 circles have an area of {total:.0} together");

    let rust = group.gateway("rust").ok_or("there is no such gateway")?;
    let channel = rust.remote_exec(farexec::Source::text("count").with("below", 5))?;
    println!("it counts {:?}", channel.iter::<u64>().collect::<Result<Vec<_>, _>>()?);

    group.terminate(Duration::from_secs(5))?;
    Ok(())
}
