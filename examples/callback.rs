//! A callback: items are handled as they arrive, and nobody waits for them.
//!
//! `cargo run --example callback`

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farexec::{Group, Item, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Group::new();
    let gateway = group.make_gateway("popen")?;
    let channel = gateway.remote_exec("channel.receive(); channel.send(42)")?;
    let received = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&received);
    channel.set_callback(move |item| {
        if let Item::Data(payload) = item {
            let number: i64 = payload.decode().map_err(|error| error.to_string())?;
            println!("the callback got {number}");
            list.lock().map_err(|error| error.to_string())?.push(number);
        }
        Ok(())
    })?;
    channel.send(&1)?;
    channel.wait_close(&Wait::at_most(Duration::from_secs(10)))?;
    assert_eq!(*received.lock().map_err(|error| error.to_string())?, [42]);
    group.terminate(Duration::from_secs(1))?;
    Ok(())
}
