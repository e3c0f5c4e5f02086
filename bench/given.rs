//! What a contender in Rust is given by `bench/run.py`, and what it prints: the arguments and the JSON of `bench/case.py`.

use serde_json::json;

/// Says why this program has no figures.
pub(crate) fn print_unavailable(why: &str) {
    println!("{}", json!({ "figures": {}, "facts": {}, "unavailable": why }));
}

/// Tells what one operation took in each sample, in seconds, and which kind of worker did it.
pub(crate) fn print_figures(seconds: &[f64], worker: Option<&str>) {
    let facts = worker.map_or_else(|| json!({}), |worker| json!({ "worker": worker }));
    println!("{}", json!({ "figures": { "seconds": seconds }, "facts": facts, "unavailable": null }));
}

/// The arguments of `bench/case.py`.
pub(crate) struct Given {
    pub(crate) case: String,
    pub(crate) spec: String,
    pub(crate) size: u32,
    pub(crate) samples: u32,
    pub(crate) option: String,
}

impl Given {
    /// Those of this program.
    pub(crate) fn read() -> Self {
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

    /// Does `batch` once to warm up, then as often as there are to be samples; returns what one of its `size` operations took in each.
    pub(crate) fn sample<E>(&self, mut batch: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
        let mut seconds = Vec::new();
        for sample in 0..=self.samples {
            let began = std::time::Instant::now();
            batch()?;
            if sample > 0 {
                seconds.push(began.elapsed().as_secs_f64() / f64::from(self.size));
            }
        }
        Ok(seconds)
    }
}
