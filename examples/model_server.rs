//! A model server: a worker that keeps a model in its memory and answers calls, whose arguments and results have types here. The model
//! (examples/model.py) is plain Python; one that a library has loaded is kept and asked in the same way.
//!
//! `cargo run --example model_server`

use std::time::Duration;

use farexec::{CallError, Function, Group};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Fit {
    slope: f64,
    residual: f64,
}

#[derive(Debug, Deserialize)]
struct Prediction {
    y: f64,
    models: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let group = Group::new();
    // The model lives in this worker: who calls another has another.
    let server = group.make_gateway(format!("popen//env:PYTHONPATH={examples}").as_str())?;

    let points: Vec<(f64, f64)> = (0..100).map(f64::from).map(|x| (x, 3.0 * x + 4.0)).collect();
    let fit: Fit = server.call("model:fit", &("line", &points))?;
    println!("fitted: slope {:.3}, off by {:.3} on average", fit.slope, fit.residual);

    // Named once, called often: each call is one round trip.
    let predict = server.function("model:predict".parse::<Function>()?);
    let mut last = None;
    for x in [200.0, 300.0, 400.0] {
        let prediction: Prediction = predict.call(&("line", x))?;
        println!("at {x} it says {:.1}", prediction.y);
        last = Some(prediction);
    }

    match predict.call::<Prediction>(&("curve", 1.0)) {
        Err(CallError::Raised(error)) => println!("it refuses: {}: {}", error.type_name(), error.message()),
        other => return Err(format!("it was to refuse, not {other:?}").into()),
    }

    group.terminate(Duration::from_secs(5))?;
    let last = last.ok_or("nothing was asked")?;
    assert!((last.y - 1204.0).abs() < 1e-6 && last.models == 1, "{last:?}");
    Ok(())
}
