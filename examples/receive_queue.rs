//! A receive queue: results from several workers through one queue, each with the channel it came from.
//!
//! `cargo run --example receive_queue`

use std::time::Duration;

use farexec::{Group, Item, MultiChannel, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Group::new();
    let gateways = group.make_gateways(["popen"; 2])?;
    let channels =
        vec![gateways[0].remote_exec("channel.send(1)")?, gateways[1].remote_exec("channel.send(2)")?];
    let queue = MultiChannel::new(channels).receive_queue()?;
    let mut sum = 0;
    while sum < 3 {
        let event = queue.get(&Wait::at_most(Duration::from_secs(3)))?;
        if let Item::Data(payload) = event.item {
            let result: i64 = payload.decode()?;
            println!("{} sent {result}", event.channel.gateway().id());
            sum += result;
        }
    }
    println!("together that is {sum}");
    group.terminate(Duration::from_secs(1))?;
    Ok(())
}
