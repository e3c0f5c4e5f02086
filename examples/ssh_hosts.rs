//! Many hosts over ssh: a worker at each, started together; they are asked the same, and answer when they are ready. A host that cannot be
//! reached is told of, and the others go on without it.
//!
//! `cargo run --example ssh_hosts -- HOST...`, with names that `ssh HOST` connects to without asking for anything. Without hosts, two workers
//! on this machine show how.

use std::time::Duration;

use farexec::{Group, Item, Spec, Wait};
use serde::Deserialize;

/// What a host tells of itself.
#[derive(Deserialize)]
struct Host {
    name: String,
    processors: u32,
    load: Option<f64>,
}

const ASK: &str = "
    import multiprocessing, os, platform
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
    channel.send({'name': platform.node(), 'processors': multiprocessing.cpu_count(), 'load': load})
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hosts: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<String> = if hosts.is_empty() {
        println!("no hosts are given (ssh_hosts HOST...): two workers on this machine take their place");
        vec!["popen//id=first".into(), "popen//id=second".into()]
    } else {
        hosts.iter().map(|host| format!("ssh={host}//id={host}")).collect()
    };
    let specs = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Spec>, _>>()?;

    let group = Group::new();
    let (mut missing, mut asked) = (0, 0);
    for (text, gateway) in texts.iter().zip(group.start_each(specs, &Wait::forever())) {
        match gateway {
            Ok(_) => asked += 1,
            Err(error) => {
                missing += 1;
                println!("{text}: {error}");
            }
        }
    }
    let mut answered = 0;
    if asked > 0 {
        for event in &group.remote_exec(ASK)?.receive_queue()? {
            let id = event.channel.gateway().id();
            match event.item {
                Item::Data(payload) => {
                    let Host { name, processors, load } = payload.decode()?;
                    let load = load.map_or_else(|| "unknown".into(), |load| format!("{load:.2}"));
                    println!("{id}: {name}, {processors} processors, load {load}");
                    answered += 1;
                }
                Item::End(reason) => println!("{id} is done: {reason}"),
            }
        }
    }

    group.terminate(Duration::from_secs(5))?;
    if missing > 0 || answered < asked {
        return Err(format!("{answered} of {} answered", texts.len()).into());
    }
    Ok(())
}
