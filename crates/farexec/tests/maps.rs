//! Maps from Rust, and channels that are limited: with real workers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::mpsc;
use std::time::Duration;

use farexec::{
    Function, Group, Map, MapError, MapOptions, ResultError, SendError, Source, TaskError, Value, Wait,
    WaitError,
};

fn group() -> Group {
    let group = Group::new();
    group.make_gateways(["popen"; 2]).unwrap();
    group
}

#[test]
fn a_journal_has_the_results_for_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Some(folder.path().join("journal"));
    let group = group();
    let inverse = Function::text("def inverse(x):\n    return 1 / x", "inverse");
    let options = || {
        let mut options = MapOptions::default();
        options.journal.clone_from(&journal);
        options
    };
    let results = group.map::<_, f64>(&inverse, [1, 0, 4], options()).unwrap();
    let results: Vec<_> = results.collect();
    assert!(matches!(&results[1], Err(ResultError::Task { index: 1, error: TaskError::Raised(_) })));
    let mut results = group.map::<_, f64>(&inverse, [1, 0, 4, 8], options()).unwrap();
    assert!(matches!(
        group.map::<_, f64>(&inverse, [1], options()),
        Err(MapError::Journal(farexec::JournalError::InUse(_)))
    ));
    assert_eq!(results.by_ref().flatten().collect::<Vec<_>>(), [1.0, 0.25, 0.125]);
    let progress = results.progress();
    // The item that failed was tried again.
    assert_eq!((progress.done, progress.failed, progress.total), (3, 1, Some(4)));
    assert_eq!(progress.workers.iter().map(|worker| worker.done).sum::<u64>(), 1);
    drop(results);
    let other = Function::text("def inverse(x):\n    return -1 / x", "inverse");
    let error = group.map::<_, f64>(&other, [1], options()).err().unwrap().to_string();
    assert!(error.contains("line 2 of it was `return 1 / x`, and is `return -1 / x`"), "{error}");
}

#[test]
fn who_watches_is_told_what_workers_do() {
    let group = group();
    let (told, progress) = mpsc::channel();
    let sleep: Function = "time:sleep".parse().unwrap();
    let results = group.map::<_, ()>(&sleep, [0.2; 4], MapOptions::default()).unwrap();
    let results = results.watched(move |progress| told.send(progress.clone()).unwrap());
    assert_eq!(results.map(Result::unwrap).count(), 4);
    let last = progress.iter().last().unwrap();
    assert_eq!((last.done, last.running, last.total), (4, 0, Some(4)));
    assert!(last.workers.iter().all(|worker| worker.done == 2 && worker.work >= Duration::from_millis(400)));
}

#[test]
fn a_successor_counts_what_the_lost_worker_did() {
    let folder = tempfile::tempdir().unwrap();
    let group = Group::new();
    group.make_gateway("popen//id=first").unwrap();
    let text = "def work(number, mark):\n    import os\n    if number == 5 and not os.path.exists(mark):\n        open(mark, 'w').close()\n        \
                os.kill(os.getpid(), 9)";
    let mut options = MapOptions::default();
    options.star = true;
    options.prefetch = Some(1);
    let items = (0..10).map(|number| (number, folder.path().join("mark")));
    let began = std::time::Instant::now();
    let mut results = group.map::<_, ()>(&Function::text(text, "work"), items, options).unwrap();
    assert_eq!(results.by_ref().map(Result::unwrap).count(), 10);
    let passed = began.elapsed();
    let progress = results.progress();
    let [worker] = &progress.workers[..] else { panic!("{progress:?}") };
    assert_eq!((worker.done, worker.failed, worker.restarts), (10, 0, 1));
    assert_ne!(worker.id, "first");
    assert!(worker.start > Duration::ZERO && worker.wait + worker.work <= passed);
    // It is over.
    assert_eq!(results.progress(), progress);
}

#[test]
fn calls_say_themselves_what_is_called() {
    let group = group();
    let mut options = MapOptions::default();
    let initial = Function::text("def initial(x):\n    import sys\n    sys.initial = x", "initial");
    options.initializer = Some((initial, Value::Tuple(vec![7.into()])));
    options.ordered = true;
    let mut map = Map::of_calls(&group, options).unwrap();
    let entry = |key: &str, value: Value| (Value::from(key), value);
    let call = |function: Vec<(Value, Value)>, arguments: Vec<Value>| {
        Value::Tuple(vec![Value::Dict(function), Value::Tuple(arguments), Value::Dict(Vec::new())])
    };
    let imported = vec![entry("module", "operator".into()), entry("call", "neg".into())];
    let text = "def get():\n    import sys\n    return sys.initial";
    let defined = vec![entry("source", text.into()), entry("call", "get".into())];
    map.put(&call(imported, vec![5.into()])).unwrap();
    map.put(&call(defined, Vec::new())).unwrap();
    map.no_more();
    let mut results = Vec::new();
    while !map.is_done() {
        map.dispatch();
        map.wait(&Wait::forever()).unwrap();
        results.extend(std::iter::from_fn(|| map.pop()).map(|result| result.decode::<i64>().unwrap()));
    }
    assert_eq!(results, [-5, 7]);
}

#[test]
fn a_limited_channel_takes_no_more_until_something_is_received() {
    let group = group();
    let gateway = &group.gateways()[0];
    let source = Source::text(
        "go = channel.receive(); go.receive(); channel.send([channel.receive() for _ in range(6)])",
    );
    let channel = gateway.remote_exec(source.max_pending(6)).unwrap();
    assert!(channel.is_limited());
    let go = gateway.new_channel().unwrap();
    assert!(!go.is_limited());
    channel.reserve(&Wait::forever()).unwrap();
    channel.start_sending(&Value::Channel(go.id())).unwrap();
    let soon = Duration::from_millis(200);
    let mut sent = 0;
    let refused = loop {
        match channel.send_timeout(&sent, soon) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, SendError::Wait(WaitError::Timeout));
    // The first item was taken, and nobody is told of that before it is half of what may wait.
    assert_eq!(sent, 5);
    go.send(&()).unwrap();
    channel.send(&sent).unwrap();
    assert_eq!(channel.receive::<Vec<i64>>().unwrap(), [0, 1, 2, 3, 4, 5]);
}
