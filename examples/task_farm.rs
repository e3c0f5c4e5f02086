//! The task farm: four local interpreters work off a list of tasks; each gets the next one when it is done with the last.
//!
//! `cargo run --release --example task_farm`

use std::time::Duration;

use farexec::{Group, Item, Source, Value};

const WORKERS: usize = 4;
const TASKS: i64 = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Group::new();
    for gateway in group.make_gateways(["popen"; WORKERS])? {
        let hello = gateway.hello();
        println!(
            "{} is {} {} with pid {}",
            gateway.id(),
            hello.implementation,
            version(&hello.version),
            hello.pid
        );
    }

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/process_item.py");
    let channels = group.remote_exec(Source::function(script, "process_item"))?;
    let queue = channels.receive_queue()?;

    let mut tasks = (0..TASKS).rev();
    let mut results = Vec::new();
    for event in &queue {
        let name = event.channel.gateway().id();
        match event.item {
            Item::Data(payload) => {
                match payload.value()? {
                    Value::Int(result) => {
                        println!("{name} returned {result}");
                        results.push(result);
                    }
                    ready => println!("{name} says {ready}"),
                }
                match tasks.next() {
                    Some(task) => {
                        println!("{name} gets task {task}");
                        event.channel.send(&task)?;
                    }
                    None => event.channel.send(&Value::None)?,
                }
            }
            Item::End(reason) => println!("{name} has ended: {reason}"),
        }
    }

    results.sort_unstable();
    println!("all {} results are here: {results:?}", results.len());
    for (gateway, termination) in group.terminate(Duration::from_secs(1))? {
        println!("{} terminated: {termination:?}, exit status {:?}", gateway.id(), gateway.return_code());
    }
    assert_eq!(results, (0..TASKS).map(|task| task * 10).collect::<Vec<_>>());
    Ok(())
}

fn version(parts: &[u32]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}
