//! Termination told reliably: the queue gets the end of each channel once, even of those whose worker is killed while it waits.
//!
//! `cargo run --example endmarker`

use std::time::Duration;

use farexec::{Group, Item, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Group::new();
    group.make_gateways(["popen"; 3])?;
    let channels = group.remote_exec("channel.send(channel.receive() + 1)")?;
    let queue = channels.receive_queue()?;
    channels[0].send(&1)?;
    let event = queue.get(&Wait::at_most(Duration::from_secs(10)))?;
    match event.item {
        Item::Data(payload) => assert_eq!(payload.decode::<i64>()?, 2),
        Item::End(reason) => return Err(reason.to_string().into()),
    }
    group.terminate(Duration::from_secs(1))?; // two of them are blocked in receive
    let mut ends = 0;
    for event in &queue {
        if let Item::End(reason) = event.item {
            println!("{}: {reason}", event.channel.gateway().id());
            ends += 1;
        }
    }
    assert_eq!((ends, group.len()), (3, 0));
    println!("{group:?} is empty, and every channel's end was told once");
    Ok(())
}
