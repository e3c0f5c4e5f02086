//! The case `int-round-trip` in Rust, blocking and by a future: a contender of `bench/run.py`, which says what it is given and prints.
//!
//! `cargo build --release -p farexec --example farexec-bench`

use std::hint::black_box;
use std::time::Instant;

use farexec::{Channel, Group};
use serde_json::json;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let given = Given::read();
    if given.case != "int-round-trip" {
        print(json!({}), json!({}), Some(&format!("the Rust program has no case {}", given.case)));
        return Ok(());
    }
    let group = Group::new();
    let gateway = group.make_gateway(given.spec.as_str())?;
    let channel = gateway.remote_exec("for item in channel: channel.send(item)")?;
    let mut seconds = Vec::new();
    // Once to warm up.
    for sample in 0..=given.samples {
        let began = Instant::now();
        match given.option.as_str() {
            "tokio" => tokio::runtime::Builder::new_current_thread()
                .build()?
                .block_on(by_futures(&channel, given.size))?,
            "smol" => smol::block_on(by_futures(&channel, given.size))?,
            "futures" => futures::executor::block_on(by_futures(&channel, given.size))?,
            _ => blocking(&channel, given.size)?,
        }
        if sample > 0 {
            seconds.push(began.elapsed().as_secs_f64() / f64::from(given.size));
        }
    }
    print(json!({ "seconds": seconds }), json!({ "worker": gateway.hello().worker }), None);
    Ok(())
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

fn print(figures: serde_json::Value, facts: serde_json::Value, unavailable: Option<&str>) {
    println!("{}", json!({ "figures": figures, "facts": facts, "unavailable": unavailable }));
}

/// The arguments of `bench/case.py`.
struct Given {
    case: String,
    spec: String,
    size: u32,
    samples: u32,
    option: String,
}

impl Given {
    fn read() -> Self {
        let mut arguments = std::env::args().skip(1);
        let mut given = Self {
            case: arguments.next().unwrap_or_default(),
            spec: "popen".into(),
            size: 1,
            samples: 3,
            option: String::new(),
        };
        while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
            match name.as_str() {
                "--spec" => given.spec = value,
                "--size" => given.size = value.parse().unwrap_or(given.size),
                "--samples" => given.samples = value.parse().unwrap_or(given.samples),
                "--option" => given.option = value,
                _ => {}
            }
        }
        given
    }
}
