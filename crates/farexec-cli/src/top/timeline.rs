//! What each worker did over the last looks: what it was at, and how many tasks gave a result or raised. The page of `top/web` draws it.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};

use super::snapshot::{Activity, History};

/// How many looks are kept: five minutes of them, if there is one a second.
pub(super) const LOOKS: usize = 300;

/// The last looks, the oldest first, and a lane for each gateway that was there at one of them.
#[derive(Default)]
pub(super) struct Timeline {
    /// How long the program had told at each, in seconds.
    times: VecDeque<f64>,
    lanes: Vec<Lane>,
}

struct Lane {
    key: String,
    name: String,
    /// One for each look; `None` where the gateway was not there.
    slices: VecDeque<Option<Slice>>,
}

#[derive(Clone, Copy)]
struct Slice {
    activity: Activity,
    /// Items that gave a result, and those that raised.
    answered: [u64; 2],
}

impl Timeline {
    /// Takes in what was just told.
    pub(super) fn take(&mut self, history: &History) {
        let earlier = self.times.len();
        self.times.push_back(history.seconds());
        for lane in &mut self.lanes {
            lane.slices.push_back(None);
        }
        for row in history.rows() {
            let index = self.lanes.iter().position(|lane| lane.key == row.key()).unwrap_or_else(|| {
                let slices = std::iter::repeat_n(None, earlier + 1).collect();
                self.lanes.push(Lane { key: row.key().to_owned(), name: String::new(), slices });
                self.lanes.len() - 1
            });
            let lane = &mut self.lanes[index];
            // It changes when the program makes its second group.
            row.name().clone_into(&mut lane.name);
            if let Some(slice) = lane.slices.back_mut() {
                *slice = Some(Slice { activity: row.activity(), answered: row.answered() });
            }
        }
        if self.times.len() > LOOKS {
            self.times.pop_front();
            for lane in &mut self.lanes {
                lane.slices.pop_front();
            }
        }
        self.lanes.retain(|lane| lane.slices.iter().any(Option::is_some));
    }

    /// All of it: `times`, and `lanes`, each with its `name` and its `slices`, which are `[activity, done, failed]` or null.
    pub(super) fn to_json(&self) -> Json {
        let lanes: Vec<Json> = self
            .lanes
            .iter()
            .map(|lane| {
                let slices = lane.slices.iter().map(|slice| {
                    slice.map(|Slice { activity, answered: [done, failed] }| {
                        json!([name(activity), done, failed])
                    })
                });
                json!({"name": lane.name, "slices": slices.collect::<Vec<_>>()})
            })
            .collect();
        json!({"times": self.times, "lanes": lanes})
    }
}

/// What the page calls it.
fn name(activity: Activity) -> &'static str {
    match activity {
        Activity::Starting => "starting",
        Activity::Idle => "idle",
        Activity::Open => "open",
        Activity::Busy => "busy",
        Activity::Ended => "ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Failure;

    fn told(seconds: usize, ids: &[&str]) -> Result<History, Failure> {
        let gateways: Vec<Json> = ids.iter().map(|id| json!({"id": id, "state": "running"})).collect();
        let mut history = History::default();
        let groups = json!([{"group": 0, "gateways": gateways}]);
        history.take(&json!({"seconds": seconds, "groups": groups}).to_string())?;
        Ok(history)
    }

    #[test]
    fn a_gateway_has_a_slice_where_it_was_there_and_nothing_elsewhere() -> Result<(), Failure> {
        let mut timeline = Timeline::default();
        timeline.take(&told(1, &["gw0"])?);
        timeline.take(&told(2, &["gw0", "gw1"])?);
        timeline.take(&told(3, &["gw1"])?);
        let there = json!(["idle", 0, 0]);
        let expected = json!({
            "times": [1.0, 2.0, 3.0],
            "lanes": [
                {"name": "gw0", "slices": [there, there, null]},
                {"name": "gw1", "slices": [null, there, there]},
            ],
        });
        assert_eq!(timeline.to_json(), expected);
        Ok(())
    }

    #[test]
    fn what_is_too_long_ago_is_forgotten_and_so_are_gateways() -> Result<(), Failure> {
        let mut timeline = Timeline::default();
        timeline.take(&told(0, &["gw0"])?);
        for seconds in 1..=LOOKS {
            timeline.take(&told(seconds, &["gw1"])?);
        }
        let json = timeline.to_json();
        assert_eq!((json["times"][0].as_f64(), json["times"][LOOKS - 1].as_f64()), (Some(1.0), Some(300.0)));
        assert_eq!(json["lanes"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["lanes"][0]["slices"].as_array().map(Vec::len), Some(LOOKS));
        Ok(())
    }
}
