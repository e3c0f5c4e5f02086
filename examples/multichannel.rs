//! A multichannel: several channels as one container.
//!
//! `cargo run --example multichannel`

use std::time::Duration;

use farexec::{Group, MultiChannel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Group::new();
    let gateways = group.make_gateways(["popen"; 2])?;
    let first = gateways[0].remote_exec("channel.send(1)")?;
    let second = gateways[1].remote_exec("channel.send(2)")?;
    let channels = MultiChannel::new(vec![first.clone(), second.clone()]);
    assert_eq!(channels.len(), 2);
    assert!(channels[0] == first && channels[1] == second);
    let sum: i64 = channels.receive_each::<i64>()?.iter().sum();
    println!("the sum of what both sent is {sum}");
    assert_eq!(sum, 3);
    group.terminate(Duration::from_secs(1))?;
    Ok(())
}
