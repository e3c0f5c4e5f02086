//! Calls of functions at real interpreters: typed results, errors, calls at the same time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use farexec::{CallError, Function, Gateway, Group, SendError, Value, Wait};

fn gateway() -> (Group, Gateway) {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    (group, gateway)
}

#[test]
fn results_have_the_type_that_is_asked_for() {
    let (_group, gateway) = gateway();
    assert_eq!(gateway.call::<f64>("math:sqrt", &(4.0,)).unwrap(), 2.0);
    assert_eq!(gateway.call::<String>("os.path:join", &["a", "b"]).unwrap(), "a/b");
    assert!(gateway.call::<i64>("time:time_ns", &()).unwrap() > 0);
    let counted: BTreeMap<String, u32> = gateway.call("collections:Counter", &("abca",)).map_or_else(
        // A Counter is no dict, so it cannot be sent: the function has to make one of it.
        |error| {
            assert!(error.to_string().contains("Counter"), "{error}");
            let text = "def count(text):\n    import collections\n    return dict(collections.Counter(text))";
            gateway.function(Function::text(text, "count")).call(&("abca",)).unwrap()
        },
        |_: BTreeMap<String, u32>| panic!("a Counter was sent"),
    );
    assert_eq!(counted["a"], 2);
}

#[test]
fn what_goes_wrong_is_told_apart() {
    let (_group, gateway) = gateway();
    let error = gateway.call::<Value>("os", &()).unwrap_err();
    assert_eq!(error.to_string(), "the name of a function has the form module:name, not `os`");
    match gateway.call::<i64>("builtins:int", &("x",)).unwrap_err() {
        CallError::Raised(error) => assert_eq!(error.type_name(), "ValueError"),
        other => panic!("{other:?}"),
    }
    match gateway.call::<Vec<i64>>("builtins:str", &(1,)).unwrap_err() {
        CallError::Result(error) => assert!(error.to_string().contains("str"), "{error}"),
        other => panic!("{other:?}"),
    }
    struct Refused;
    impl serde::Serialize for Refused {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it refuses"))
        }
    }
    let error = gateway.call::<Value>("builtins:int", &(Refused,)).unwrap_err();
    assert!(matches!(&error, CallError::Arguments(SendError::Encode(_))), "{error:?}");
    assert!(error.to_string().contains("it refuses"), "{error}");
    assert!(matches!(gateway.call::<()>("os:_exit", &(3,)), Err(CallError::Ended(_))));
    assert!(matches!(gateway.call::<()>("os:getpid", &()), Err(CallError::Exec(_))));
}

#[test]
fn a_call_that_nobody_waits_for_any_more_holds_up_no_other() {
    let (_group, gateway) = gateway();
    let sleep = gateway.function("time:sleep".parse().unwrap());
    let mut call = sleep.start(&Value::Tuple(vec![Value::Int(60)]), None::<&Value>).unwrap();
    let waited = call.wait(&Wait::at_most(Duration::from_millis(10)));
    assert!(matches!(waited, Err(CallError::Wait(farexec::WaitError::Timeout))), "{waited:?}");
    drop(call);
    assert_eq!(gateway.call::<i64>("builtins:int", &("7",)).unwrap(), 7);
}

#[test]
fn threads_call_at_the_same_time() {
    let (_group, gateway) = gateway();
    let meet = "
def meet(count):
    import sys, threading
    barrier = sys.__dict__.setdefault('test_calls', threading.Barrier(count))
    barrier.wait(20)
    return True
";
    let meet = gateway.function(Function::text(meet, "meet"));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| meet.call::<bool>(&(4,)))).collect();
        for call in calls {
            assert!(call.join().unwrap().unwrap());
        }
    });
}
