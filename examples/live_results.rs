//! Live results: workers compute for as long as it takes, and what they find arrives in one stream as it is found.
//!
//! `cargo run --example live_results`

use std::time::Duration;

use farexec::{Group, Source};
use futures::stream::{TryStreamExt, select_all};
use serde::Deserialize;

/// What a worker tells of its search.
#[derive(Debug, Deserialize)]
struct Found {
    worker: u32,
    prime: u64,
}

const SEARCH: &str = "
    for number in range(start, start + 100):
        if all(number % divisor for divisor in range(2, int(number ** 0.5) + 1)):
            channel.send({'worker': worker, 'prime': number})
";

// Any executor will do; this one has nothing but a thread that waits.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    futures::executor::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let group = Group::new();
    let mut streams = Vec::new();
    for (worker, gateway) in (0_u32..).zip(group.make_gateways_async(["popen"; 3]).await?) {
        let start = 1_000_000 + i64::from(worker) * 100;
        let source = Source::text(SEARCH).with("worker", i64::from(worker)).with("start", start);
        streams.push(gateway.remote_exec(source)?.stream::<Found>());
    }

    let found =
        select_all(streams).inspect_ok(|Found { worker, prime }| println!("worker {worker} found {prime}"));
    let mut primes: Vec<u64> = found.map_ok(|found| found.prime).try_collect().await?;

    primes.sort_unstable();
    println!("{} primes, from {:?} to {:?}", primes.len(), primes.first(), primes.last());
    group.terminate_async(Duration::from_secs(1)).await?;
    assert_eq!((primes.first(), primes.last()), (Some(&1_000_003), Some(&1_000_291)));
    Ok(())
}
