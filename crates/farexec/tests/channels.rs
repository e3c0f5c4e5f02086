//! Channels between Rust and real interpreters: items both ways, ends, errors, callbacks, queues.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farexec::{
    Channel, ChannelEnd, Gateway, Group, Item, MultiChannel, ReceiveError, SendError, Source, Value, Wait,
    WaitError,
};

fn soon() -> Wait<'static> {
    Wait::at_most(Duration::from_secs(20))
}

fn gateway() -> (Group, Gateway) {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    (group, gateway)
}

fn echo(gateway: &Gateway) -> Channel {
    gateway.remote_exec("for item in channel: channel.send(item)").unwrap()
}

#[test]
fn items_of_every_type_come_back_as_they_went() {
    let (_group, gateway) = gateway();
    let channel = echo(&gateway);
    let huge: Value = "123456789012345678901234567890".parse::<farexec::proto::BigInt>().unwrap().into();
    let items = [
        Value::None,
        Value::Bool(true),
        Value::Int(0),
        Value::Int(-1),
        Value::Int(i64::MIN),
        Value::Int(i64::MAX),
        huge,
        Value::Float(1.5),
        Value::Float(f64::NEG_INFINITY),
        Value::Complex(1.0, -2.0),
        Value::Str("grüße, 世界 🦀".into()),
        Value::Bytes(vec![0, 255, 10]),
        Value::Tuple(vec![Value::Int(1), Value::List(vec![Value::None])]),
        Value::List((0..3000).map(Value::Int).collect()),
        Value::Dict(vec![
            (Value::Str("a".into()), Value::Int(1)),
            (Value::Tuple(vec![Value::Int(2)]), Value::None),
        ]),
        Value::Set(vec![Value::Int(7)]),
        Value::FrozenSet(vec![Value::Str("x".into())]),
        Value::Bytes(vec![42; 5_000_000]),
    ];
    for item in items {
        channel.send(&item).unwrap();
        assert_eq!(channel.receive_payload(&soon()).unwrap().value().unwrap(), item);
    }
}

#[test]
fn serde_types_go_both_ways() {
    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Job {
        name: String,
        weights: Vec<f64>,
        tags: BTreeMap<String, Option<u8>>,
    }
    let (_group, gateway) = gateway();
    let channel = gateway
        .remote_exec("job = channel.receive(); job['weights'].append(sum(job['weights'])); channel.send(job)")
        .unwrap();
    let tags = BTreeMap::from([("a".to_owned(), Some(1)), ("b".to_owned(), None)]);
    channel.send(&Job { name: "n".into(), weights: vec![1.0, 2.5], tags: tags.clone() }).unwrap();
    let job: Job = channel.receive().unwrap();
    assert_eq!(job, Job { name: "n".into(), weights: vec![1.0, 2.5, 3.5], tags });
}

#[test]
fn items_arrive_in_order_and_stay_readable_after_the_end() {
    let (_group, gateway) = gateway();
    let channel = gateway.remote_exec("for number in range(50000): channel.send(number)").unwrap();
    channel.wait_close(&soon()).unwrap();
    let numbers: Result<Vec<i64>, _> = channel.iter().collect();
    assert_eq!(numbers.unwrap(), (0..50_000).collect::<Vec<_>>());
    assert!(matches!(channel.receive::<Value>(), Err(ReceiveError::End(ChannelEnd::Closed))));
}

#[test]
fn a_remote_exception_is_reported_once_with_its_traceback() {
    let (_group, gateway) = gateway();
    let channel =
        gateway.remote_exec(Source::text("def f():\n    1 / 0\nf()").at("/some/file.py", 7)).unwrap();
    let Err(ReceiveError::Remote(error)) = channel.receive::<Value>() else { panic!("no remote error") };
    assert_eq!((error.type_name(), error.message()), ("ZeroDivisionError", "division by zero"));
    assert!(error.text().contains("File \"/some/file.py\", line 8, in f"), "{error}");
    assert_eq!(error.frames().last().map(|frame| (frame.line, &*frame.function)), Some((8, "f")));
    assert!(matches!(channel.receive::<Value>(), Err(ReceiveError::End(ChannelEnd::Error(_)))));
}

#[test]
fn sending_on_a_closed_channel_is_refused() {
    let (_group, gateway) = gateway();
    let channel = gateway.remote_exec("pass").unwrap();
    channel.wait_close(&soon()).unwrap();
    let error = channel.send(&1).unwrap_err();
    assert!(matches!(error, SendError::Closed { .. }));
    let text = format!("cannot send to <Channel id={} closed>: closed by the far end", channel.id());
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_receive_gives_up_in_time_and_loses_nothing() {
    let (_group, gateway) = gateway();
    let channel = gateway.remote_exec("channel.receive(); channel.send('late')").unwrap();
    let result = channel.receive_timeout::<String>(Duration::from_millis(50));
    assert_eq!(result, Err(ReceiveError::Wait(WaitError::Timeout)));
    channel.send(&()).unwrap();
    assert_eq!(channel.receive::<String>().unwrap(), "late");
}

#[test]
fn a_close_wakes_a_thread_that_receives() {
    let (_group, gateway) = gateway();
    let channel = gateway.remote_exec("channel.receive()").unwrap();
    let waiting = channel.clone();
    let thread = std::thread::spawn(move || waiting.receive::<Value>());
    std::thread::sleep(Duration::from_millis(100));
    channel.close();
    assert!(matches!(thread.join().unwrap(), Err(ReceiveError::End(ChannelEnd::ClosedHere))));
}

#[test]
fn threads_that_wait_on_one_gateway_do_not_stand_in_each_others_way() {
    let (_group, gateway) = gateway();
    let threads: Vec<_> = (0..16)
        .map(|number: i64| {
            let gateway = gateway.clone();
            std::thread::spawn(move || {
                let channel = echo(&gateway);
                for round in 0..300 {
                    channel.send(&(number, round)).unwrap();
                    let back: (i64, i64) = channel.receive_timeout(Duration::from_secs(20)).unwrap();
                    assert_eq!(back, (number, round));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_callback_gets_every_item_in_order_and_the_end_once() {
    let (_group, gateway) = gateway();
    let channel = gateway.remote_exec("for number in range(1000): channel.send(number)").unwrap();
    let seen = Arc::new(Mutex::new((Vec::new(), 0)));
    let shared = Arc::clone(&seen);
    channel
        .set_callback(move |item| {
            let mut seen = shared.lock().unwrap();
            match item {
                Item::Data(payload) => seen.0.push(payload.decode::<i64>().unwrap()),
                Item::End(_) => seen.1 += 1,
            }
            Ok(())
        })
        .unwrap();
    channel.wait_close(&soon()).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((&seen.0, seen.1), (&(0..1000).collect::<Vec<_>>(), 1));
    assert!(matches!(channel.receive::<Value>(), Err(ReceiveError::AlreadyTaken(_))));
}

#[test]
fn a_callback_that_fails_closes_the_channel_with_its_error() {
    let (_group, gateway) = gateway();
    let source = "
        channel.send(1)
        try:
            channel.receive()
        except channel.RemoteError as error:
            report.send(str(error))
    ";
    let report = gateway.new_channel().unwrap();
    let channel =
        gateway.remote_exec(Source::text(source).with("report", Value::Channel(report.id()))).unwrap();
    channel.set_callback(|_| Err("this callback is broken".into())).unwrap();
    let text: String = report.receive_timeout(Duration::from_secs(20)).unwrap();
    assert!(text.contains("this callback is broken"));
    assert!(matches!(channel.wait_close(&soon()), Err(ReceiveError::Remote(_))));
}

#[test]
fn a_callback_outlives_its_handle() {
    let (_group, gateway) = gateway();
    let channel = gateway.remote_exec("import time; time.sleep(0.2); channel.send(1)").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    channel
        .set_callback(move |item| {
            if let Item::Data(payload) = item {
                sender.send(payload.decode::<i64>().unwrap()).unwrap();
            }
            Ok(())
        })
        .unwrap();
    drop(channel);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(1));
}

#[test]
fn a_dropped_channel_ends_at_the_far_end() {
    let (_group, gateway) = gateway();
    let report = gateway.new_channel().unwrap();
    let source = "
        for item in channel:
            report.send(item)
        report.send('over')
    ";
    let channel =
        gateway.remote_exec(Source::text(source).with("report", Value::Channel(report.id()))).unwrap();
    channel.send(&1).unwrap();
    drop(channel);
    let items: Vec<Value> =
        (0..2).map(|_| report.receive_timeout(Duration::from_secs(20)).unwrap()).collect();
    assert_eq!(items, [Value::Int(1), Value::Str("over".into())]);
}

#[test]
fn channels_travel_over_channels() {
    let (_group, gateway) = gateway();
    let source = "
        mine = channel.gateway.newchannel()
        mine.send('before')
        channel.send({'new': mine})
        mine.send(mine.receive() + 1)
    ";
    let channel = gateway.remote_exec(source).unwrap();
    let Value::Dict(items) = channel.receive().unwrap() else { panic!("no dict") };
    let (_, Value::Channel(id)) = items[0] else { panic!("no channel") };
    let theirs = gateway.channel(id);
    assert_eq!(theirs, gateway.channel(id), "one channel, one handle");
    theirs.send(&41).unwrap();
    let items: Vec<Value> = (0..2).map(|_| theirs.receive().unwrap()).collect();
    assert_eq!(items, [Value::Str("before".into()), Value::Int(42)]);
}

#[test]
fn a_queue_tags_items_by_channel_and_tells_each_end_once() {
    let group = Group::new();
    group.make_gateways(["popen"; 4]).unwrap();
    let channels = group.remote_exec("for number in range(500): channel.send(number)").unwrap();
    let queue = channels.receive_queue().unwrap();
    let mut next = [0; 4];
    let mut ends = [0; 4];
    for event in &queue {
        match event.item {
            Item::Data(payload) => {
                assert_eq!(payload.decode::<i64>().unwrap(), next[event.index]);
                next[event.index] += 1;
            }
            Item::End(end) => {
                assert_eq!(end, ChannelEnd::Closed);
                ends[event.index] += 1;
            }
        }
    }
    assert_eq!((next, ends), ([500; 4], [1; 4]));
    assert!(channels.receive_queue().is_err(), "the items go to the first queue");
    assert!(queue.try_get().is_none());
    let result = queue.get(&Wait::at_most(Duration::from_millis(30)));
    assert_eq!(result.map(drop), Err(WaitError::Timeout));
}

#[test]
fn a_multichannel_reports_the_first_error_after_all_have_ended() {
    let (_group, gateway) = gateway();
    let slow = gateway.remote_exec("import time; time.sleep(0.3)").unwrap();
    let broken = gateway.remote_exec("raise ValueError('first')").unwrap();
    let channels = MultiChannel::new(vec![broken, slow.clone()]);
    let Err(ReceiveError::Remote(error)) = channels.wait_close(&soon()) else { panic!("no remote error") };
    assert_eq!(error.type_name(), "ValueError");
    assert!(slow.is_closed());
}

/// A worker that takes nothing must not make the sender's memory grow without end, nor stop it for ever once it is gone.
#[test]
fn a_sender_waits_for_a_worker_that_is_far_behind() {
    let (group, gateway) = gateway();
    let channel = gateway.remote_exec("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)").unwrap();
    let chunk = Value::Bytes(vec![0; 1 << 20]);
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while channel.send(&chunk).is_ok() && sent < 100 {
            sent += 1;
        }
        sent
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!sender.is_finished(), "the sender must wait, not pile up 100 MiB");
    let began = Instant::now();
    group.terminate(Duration::from_millis(100)).unwrap();
    assert!(sender.join().unwrap() < 100);
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// Items that a worker sent on a channel of its own, and closed, were lost if the channel was mentioned in an item taken only then.
#[test]
fn a_channel_closed_before_it_was_taken_keeps_its_items() {
    let (_group, gateway) = gateway();
    let source =
        "inner = channel.gateway.newchannel(); channel.send(inner); inner.send(7); inner.send(8); del inner";
    let channel = gateway.remote_exec(source).unwrap();
    while !channel.is_closed() {
        gateway.remote_status(&soon()).unwrap();
    }
    let inner: farexec::ChannelId = channel.receive().unwrap();
    let inner = gateway.channel(inner);
    assert_eq!((inner.receive::<i32>().unwrap(), inner.receive::<i32>().unwrap()), (7, 8));
    assert!(matches!(inner.receive::<i32>(), Err(farexec::ReceiveError::End(_))));
}

/// Wakers that count, as an executor without a runtime would have them.
#[derive(Default)]
struct Counter(std::sync::atomic::AtomicUsize, Mutex<Option<std::thread::Thread>>);

impl std::task::Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let Some(thread) = &*self.1.lock().unwrap() {
            thread.unpark();
        }
    }
}

/// Asks until it is ready, waiting for nothing but the waker in between. Returns how often it asked, too.
fn poll<T, E>(
    mut operation: impl FnMut(&Wait<'_>) -> Result<T, E>,
    is_pending: impl Fn(&E) -> bool,
) -> (Result<T, E>, usize) {
    let counter = Arc::new(Counter::default());
    *counter.1.lock().unwrap() = Some(std::thread::current());
    let waker = std::task::Waker::from(Arc::clone(&counter));
    for asked in 1.. {
        let result = operation(&Wait::polling(&waker));
        if !result.as_ref().is_err_and(&is_pending) {
            return (result, asked);
        }
        let began = Instant::now();
        while counter.0.swap(0, std::sync::atomic::Ordering::SeqCst) == 0 {
            std::thread::park_timeout(Duration::from_secs(20));
            assert!(began.elapsed() < Duration::from_secs(20), "nobody woke the waker");
        }
    }
    unreachable!("it asks for ever")
}

#[test]
fn what_would_wait_can_be_polled() {
    let (group, gateway) = gateway();
    let is_pending = |error: &ReceiveError| matches!(error, ReceiveError::Wait(WaitError::Pending));
    let channel = gateway
        .remote_exec(
            "import time\nfor i in range(50): time.sleep(0.002); channel.send(i)\ntime.sleep(0.05)\n1 / 0",
        )
        .unwrap();
    for number in 0..50 {
        let (payload, asked) = poll(|wait| channel.receive_payload(wait), is_pending);
        assert_eq!(payload.unwrap().decode::<i64>().unwrap(), number);
        assert!(asked <= 4, "asked {asked} times");
    }
    let (closed, asked) = poll(|wait| channel.wait_close(wait), is_pending);
    assert!(matches!(closed, Err(ReceiveError::Remote(_))) && asked <= 4);

    let queue = MultiChannel::new(vec![
        gateway.remote_exec("import time; time.sleep(0.05); channel.send(1)").unwrap(),
    ])
    .receive_queue()
    .unwrap();
    let (event, _) = poll(|wait| queue.get(wait), |&error| error == WaitError::Pending);
    assert!(matches!(event.unwrap().item, Item::Data(_)));
    let (event, _) = poll(|wait| queue.next_event(wait), |&error| error == WaitError::Pending);
    assert!(matches!(event.unwrap().unwrap().item, Item::End(ChannelEnd::Closed)));

    let _busy = gateway.remote_exec("import os, time; time.sleep(0.05); os._exit(3)").unwrap();
    let (end, _) = poll(|wait| gateway.wait(wait), |&error| error == WaitError::Pending);
    assert!(end.unwrap().to_string().contains("status 3"));
    group.terminate(Duration::from_secs(1)).unwrap();
}
