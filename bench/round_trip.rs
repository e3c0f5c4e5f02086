//! The cases `int-round-trip`, blocking and by a future, and `call` in Rust: a contender of `bench/run.py`.
//!
//! `cargo build --release -p farexec --example farexec-bench`

mod given;

use std::hint::black_box;

use farexec::{Channel, Function, Gateway, Group};
use given::{Given, print_figures, print_unavailable};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let given = Given::read();
    let group = Group::new();
    let seconds = match given.case.as_str() {
        "int-round-trip" => round_trips(&given, &group.make_gateway(given.spec.as_str())?)?,
        "call" => calls(&given, &group.make_gateway(given.spec.as_str())?)?,
        other => {
            print_unavailable(&format!("the Rust program has no case {other}"));
            return Ok(());
        }
    };
    let worker = group.gateways().first().map(|gateway| gateway.hello().worker);
    print_figures(&seconds, worker.as_deref());
    Ok(())
}

fn round_trips(given: &Given, gateway: &Gateway) -> Result<Vec<f64>, Error> {
    let channel = gateway.remote_exec("for item in channel: channel.send(item)")?;
    given.sample(|| match given.option.as_str() {
        "tokio" => {
            tokio::runtime::Builder::new_current_thread().build()?.block_on(by_futures(&channel, given.size))
        }
        "smol" => smol::block_on(by_futures(&channel, given.size)),
        "futures" => futures::executor::block_on(by_futures(&channel, given.size)),
        _ => blocking(&channel, given.size),
    })
}

fn blocking(channel: &Channel, size: u32) -> Result<(), Error> {
    for number in 0..size {
        channel.send(&number)?;
        black_box(channel.receive::<u32>()?);
    }
    Ok(())
}

async fn by_futures(channel: &Channel, size: u32) -> Result<(), Error> {
    for number in 0..size {
        channel.send_async(&number).await?;
        black_box(channel.receive_async::<u32>().await?);
    }
    Ok(())
}

/// A function that does nothing, as in `bench/embedded`.
fn calls(given: &Given, gateway: &Gateway) -> Result<Vec<f64>, Error> {
    let nothing = gateway.function(Function::text("def nothing(): pass", "nothing"));
    given.sample(|| {
        for _ in 0..given.size {
            nothing.call::<()>(&())?;
        }
        Ok(())
    })
}
