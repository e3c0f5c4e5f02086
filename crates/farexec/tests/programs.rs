//! Workers that are Rust programs: this one, which starts itself as a worker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use farexec::worker::{Registry, serve};
use farexec::{
    CallError, Channel, Function, Gateway, Group, MapOptions, ReceiveError, SendError, Source, StartError,
    Termination, Value,
};

const SERVES: &str = "FAREXEC_TEST_SERVES";

#[derive(serde::Deserialize)]
struct Settings {
    step: i64,
    #[serde(default)]
    first: i64,
}

/// No test, but what the others start.
#[test]
fn worker() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let registry = Registry::new()
        .function("numbers:hypot", |(a, b): (f64, f64)| Ok::<_, String>(a.hypot(b)))
        .function("math:hypot", |(a, b): (f64, f64)| Ok::<_, String>(a.hypot(b)))
        .function("numbers:parse", |(text,): (String,)| text.parse::<i64>())
        .function("numbers:panic", |(): ()| -> Result<(), String> { panic!("all is lost") })
        .function("numbers:exit", |(status,): (i32,)| -> Result<(), String> { std::process::exit(status) })
        .function("system:variable", |(name,): (String,)| std::env::var(name))
        .function("system:directory", |(): ()| std::env::current_dir())
        .channel_function("stairs", |channel: Channel, settings: Settings| -> Result<(), SendError> {
            let mut at = settings.first;
            while channel.receive::<Value>().is_ok() {
                channel.send(&at)?;
                at += settings.step;
            }
            Ok(())
        })
        .channel_function("fails", |_: Channel, _: BTreeMap<String, Value>| -> Result<(), String> {
            Err("it was to fail".into())
        });
    serve(registry).unwrap();
}

fn spec(more: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let run = format!("exec {} --exact worker --nocapture", this.display());
    format!("command=env {SERVES}=1 sh -c '{run}'{more}")
}

fn program() -> (Group, Gateway) {
    let group = Group::new();
    let gateway = group.make_gateway(spec("").as_str()).unwrap();
    (group, gateway)
}

#[test]
fn functions_have_types() {
    let (_group, gateway) = program();
    let hello = gateway.hello();
    assert_eq!((hello.implementation.as_str(), hello.worker.as_str()), ("rust", "native"));
    assert_eq!(gateway.pid(), Some(hello.pid));
    assert_eq!(gateway.call::<f64>("numbers:hypot", &(3.0, 4.0)).unwrap(), 5.0);
    assert_eq!(gateway.call::<i64>("numbers:parse", &("-7",)).unwrap(), -7);
    assert_eq!(gateway.remote_status(&farexec::Wait::forever()).unwrap().executing, 1);
}

#[test]
fn what_goes_wrong_is_told_as_from_python() {
    let (_group, gateway) = program();
    let raised = |error: CallError| match error {
        CallError::Raised(error) => (error.type_name().to_owned(), error.message().to_owned()),
        other => panic!("{other:?}"),
    };
    let parse = |text: &str| gateway.call::<i64>("numbers:parse", &(text,)).unwrap_err();
    let (kind, message) = raised(parse("seven"));
    assert!(kind.ends_with("ParseIntError"), "{kind}");
    assert!(message.contains("invalid digit"), "{message}");
    let panicked = raised(gateway.call::<()>("numbers:panic", &()).unwrap_err());
    assert_eq!(panicked, ("panic".into(), "all is lost".into()));
    let (kind, message) = raised(gateway.call::<f64>("numbers:hypot", &("a", 1)).unwrap_err());
    assert!(kind == "TypeError" && message.contains("[0]"), "{message}");
    let (kind, message) = raised(gateway.call::<f64>("numbers:hypotenuse", &()).unwrap_err());
    assert!(kind == "LookupError" && message.contains("`numbers:hypot`"), "{message}");
    let python = gateway.function(Function::text("def f(): pass", "f"));
    assert!(python.call::<()>(&()).unwrap_err().to_string().contains("calls no Python"));
    assert_eq!(gateway.call::<i64>("numbers:parse", &("1",)).unwrap(), 1);
    assert!(matches!(gateway.call::<()>("numbers:exit", &(3,)), Err(CallError::Ended(_))));
    assert_eq!(gateway.return_code(), Some(3));
}

#[test]
fn functions_with_channels_are_executed_by_their_names() {
    let (_group, gateway) = program();
    let stairs = gateway.remote_exec(Source::text("stairs").with("step", 3)).unwrap();
    for expected in [0, 3, 6] {
        stairs.send(&()).unwrap();
        assert_eq!(stairs.receive::<i64>().unwrap(), expected);
    }
    let beside = gateway.remote_exec(Source::text("stairs").with("step", 1).with("first", 5)).unwrap();
    beside.send(&()).unwrap();
    assert_eq!(beside.receive::<i64>().unwrap(), 5);
    let error = |source: Source| match gateway.remote_exec(source).unwrap().receive::<Value>().unwrap_err() {
        ReceiveError::Remote(error) => error.text().to_owned(),
        other => panic!("{other:?}"),
    };
    assert!(error(Source::text("fails")).contains("it was to fail"));
    assert!(error(Source::text("stairs")).contains("step"));
    assert!(error(Source::text("channel.send(1)")).contains("`fails`, `stairs`"));
}

#[test]
fn items_are_mapped_and_workers_that_die_are_replaced() {
    let group = Group::new();
    group.make_gateways([spec(""), spec("")]).unwrap();
    let parse = "numbers:parse".parse().unwrap();
    let texts = (0..500).map(|number: i64| number.to_string());
    let results = group.map::<_, i64>(&parse, texts, MapOptions::default()).unwrap();
    assert!(results.map(Result::unwrap).eq(0..500));
    let mut options = MapOptions::default();
    options.star = true;
    let pairs = [(3.0, 4.0), (5.0, 12.0)];
    let results = group.map::<_, f64>(&"numbers:hypot".parse().unwrap(), pairs, options.clone()).unwrap();
    assert_eq!(results.map(Result::unwrap).collect::<Vec<_>>(), [5.0, 13.0]);
    options.star = false;
    options.retries = 1;
    let error = group.map::<_, ()>(&"numbers:exit".parse().unwrap(), [5], options).unwrap().next();
    assert!(error.unwrap().unwrap_err().to_string().contains("exited with status 5"));
}

#[test]
fn a_group_of_programs_and_interpreters_answers_the_same_typed_calls() {
    let group = Group::new();
    let popen = || "popen".to_owned();
    let gateways = group.make_gateways([spec(""), popen(), spec(""), popen()]).unwrap();
    let of_rust: Vec<bool> =
        gateways.iter().map(|gateway| gateway.hello().implementation == "rust").collect();
    assert_eq!(of_rust, [true, false, true, false]);
    for gateway in &gateways {
        assert_eq!(gateway.call::<f64>("math:hypot", &(3.0, 4.0)).unwrap(), 5.0);
        let wrong = gateway.call::<f64>("math:hypot", &("three", 4.0));
        assert!(matches!(wrong, Err(CallError::Raised(_))), "{wrong:?}");
        let wrong = gateway.call::<String>("math:hypot", &(3.0, 4.0));
        assert!(matches!(wrong, Err(CallError::Result(_))), "{wrong:?}");
    }
    let mut options = MapOptions::default();
    options.star = true;
    let pairs = (0_u16..500).map(|number| (3.0 * f64::from(number), 4.0 * f64::from(number)));
    let results = group.map::<_, f64>(&"math:hypot".parse().unwrap(), pairs, options).unwrap();
    assert!(results.map(Result::unwrap).eq((0_u16..500).map(|number| 5.0 * f64::from(number))));
}

#[test]
fn what_a_spec_says_is_done_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("made/on the way");
    let group = Group::new();
    let more = format!("//chdir={}//env:ANSWER=42//stdout=null", there.display());
    let gateway = group.make_gateway(spec(&more).as_str()).unwrap();
    assert_eq!(gateway.call::<String>("system:variable", &("ANSWER",)).unwrap(), "42");
    let directory: String = gateway.call("system:directory", &()).unwrap();
    assert_eq!(std::path::Path::new(&directory), there.canonicalize().unwrap());
    for (more, why) in [("//execmodel=gevent", "execmodel=gevent"), ("//preload=numpy", "preload numpy")] {
        match group.make_gateway(spec(more).as_str()).unwrap_err() {
            StartError::Refused { reason, .. } => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn it_ends_in_order_whatever_it_is_at() {
    let group = Group::new();
    let gateway = group.make_gateway(spec("").as_str()).unwrap();
    let _waiting = gateway.remote_exec(Source::text("stairs").with("step", 1)).unwrap();
    let ended = group.terminate(Duration::from_secs(20)).unwrap();
    assert_eq!(ended[0].1, Termination::Ended);
    assert_eq!(gateway.return_code(), Some(0));
}
