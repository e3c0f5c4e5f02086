//! Futures, streams and sinks on three executors that have nothing in common: tokio, smol, and the bare one of `futures`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use farexec::{
    CallError, Cause, Channel, ChannelEnd, Function, Gateway, Group, Item, MapOptions, ReceiveError,
    ResultError, Rsync, SendError, TaskError, Wait,
};
use futures::future::{Either, join, join_all, poll_immediate, select};
use futures::{FutureExt, SinkExt, StreamExt, TryStreamExt, stream};

type Executor = fn(Body);
type Body = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a test on each executor, and gives up on one that hangs.
fn on_each(test: fn() -> Body) {
    let executors: [(&str, Executor); 4] = [
        ("futures", |body| futures::executor::block_on(body)),
        ("smol", |body| smol::block_on(body)),
        ("tokio", |body| tokio::runtime::Runtime::new().unwrap().block_on(body)),
        ("tokio task", |body| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let task = runtime.spawn(body);
            runtime.block_on(task).unwrap();
        }),
    ];
    for (name, executor) in executors {
        let (done, is_done) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            executor(test());
            done.send(()).unwrap();
        });
        match is_done.recv_timeout(Duration::from_secs(60)) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs on {name}"),
            _ => thread.join().unwrap(),
        }
    }
}

/// Each test as a function that runs the future of its block on each executor.
macro_rules! on_each {
    ($($name:ident $body:block)+) => {$(
        #[test]
        fn $name() {
            on_each(|| Box::pin(async $body));
        }
    )+};
}

/// A function that waits until so many calls of it are under way.
const MEET: &str = "
def meet(count):
    import sys, threading
    sys.__dict__.setdefault('test_futures', threading.Barrier(count)).wait(20)
    return count
";

async fn gateway() -> (Group, Gateway) {
    let group = Group::new();
    let gateway = group.make_gateway_async("popen").await.unwrap();
    (group, gateway)
}

fn echo(gateway: &Gateway) -> Channel {
    gateway.remote_exec("for item in channel: channel.send(item)").unwrap()
}

/// Lets whatever else there is run once.
async fn give_way() {
    let mut has_given_way = false;
    std::future::poll_fn(|context| {
        if has_given_way {
            return Poll::Ready(());
        }
        has_given_way = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

on_each! {
    a_group_from_its_start_to_its_end {
        let group = Group::new();
        let gateways = group.make_gateways_async(["popen"; 3]).await.unwrap();
        let channels = group.remote_exec("channel.send(channel.receive() * 2)").unwrap();
        channels.send_each_async(&21).await.unwrap();
        assert_eq!(channels.receive_each_async::<i64>().await.unwrap(), [42; 3]);
        channels.wait_close_async().await.unwrap();
        assert_eq!(gateways[0].remote_status_async().await.unwrap().channels, 0);
        let ended = join(gateways[1].wait_async(), group.terminate_async(Duration::from_secs(10))).await;
        assert_eq!(*ended.0.unwrap().cause(), Cause::Asked);
        assert_eq!(ended.1.unwrap().len(), 3);
        assert!(group.is_empty());
    }

    calls_are_futures_and_one_that_is_dropped_holds_up_no_other {
        let (_group, gateway) = gateway().await;
        let meet = gateway.function(Function::text(MEET, "meet"));
        let met = join_all((0..4).map(|_| meet.call_async::<i64>(&(4,)))).await;
        assert!(met.into_iter().all(|result| result.unwrap() == 4));
        assert!(poll_immediate(gateway.call_async::<()>("time:sleep", &(60,))).await.is_none());
        assert_eq!(gateway.call_async::<f64>("math:sqrt", &(4,)).await.unwrap(), 2.0);
        match gateway.call_async::<i64>("builtins:int", &("x",)).await.unwrap_err() {
            CallError::Raised(error) => assert_eq!(error.type_name(), "ValueError"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(gateway.call_async::<()>("os:_exit", &(3,)).await, Err(CallError::Ended(_))));
    }

    a_start_that_fails_says_why {
        let error = Group::new().make_gateway_async("popen//python=/nowhere/python").await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/python"), "{error}");
    }

    bytes_go_both_ways {
        let (_group, gateway) = gateway().await;
        let channel = echo(&gateway);
        for length in [0, 10, 100_000, 3_000_000] {
            let bytes = vec![7; length];
            channel.send_bytes_async(&bytes).await.unwrap();
            assert_eq!(channel.receive_payload_async().await.unwrap().value(), Ok(farexec::Value::Bytes(bytes)));
        }
        channel.finish_sending_async().await.unwrap();
    }

    many_wait_at_once_on_one_gateway {
        let (_group, gateway) = gateway().await;
        let channels: Vec<_> = (0..200).map(|_| echo(&gateway)).collect();
        let numbers = join_all(channels.iter().enumerate().map(|(number, channel)| async move {
            for turn in 0..5 {
                channel.send_async(&(number, turn)).await.unwrap();
                assert_eq!(channel.receive_async::<(usize, i32)>().await.unwrap(), (number, turn));
            }
            number
        }));
        assert_eq!(numbers.await, (0..200).collect::<Vec<_>>());
    }

    receiving_that_is_cancelled_takes_nothing {
        let (_group, gateway) = gateway().await;
        let channel = gateway.remote_exec("for number in range(3000): channel.send(number)").unwrap();
        let (mut numbers, mut cancelled) = (Vec::new(), 0);
        loop {
            match select(pin!(channel.receive_async::<i64>()), pin!(give_way())).await {
                Either::Left((Ok(number), _)) => numbers.push(number),
                Either::Left((Err(error), _)) => {
                    assert_eq!(error, ReceiveError::End(ChannelEnd::Closed));
                    break;
                }
                Either::Right(_) => cancelled += 1,
            }
        }
        assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
        assert!(cancelled > 0);
    }

    one_that_is_cancelled_leaves_the_other_of_the_same_task_waiting {
        let (_group, gateway) = gateway().await;
        let channel = echo(&gateway);
        let mut other = pin!(channel.receive_async::<i64>());
        let mut one = Box::pin(channel.receive_async::<i64>());
        assert!(poll_immediate(&mut one).await.is_none());
        assert!(poll_immediate(&mut other).await.is_none());
        drop(one);
        channel.send_async(&1).await.unwrap();
        assert_eq!(other.await, Ok(1));
    }

    two_who_wait_on_one_channel_get_an_item_each {
        let (_group, gateway) = gateway().await;
        let channel = echo(&gateway);
        let both = join(channel.receive_async::<i64>(), channel.receive_async::<i64>());
        let (both, sent) = join(both, async {
            give_way().await;
            channel.send_async(&1).await?;
            channel.send_async(&2).await
        })
        .await;
        sent.unwrap();
        assert_eq!(BTreeSet::from([both.0.unwrap(), both.1.unwrap()]), BTreeSet::from([1, 2]));
    }

    sending_that_is_cancelled_has_sent_nothing {
        let (_group, gateway) = gateway().await;
        let channel = gateway.remote_exec("channel.send(sum(1 for item in channel))").unwrap();
        // So that it takes nothing.
        signal(&gateway, "STOP");
        let item = vec![7_u8; 100_000];
        let mut sent = 0;
        while let Some(result) = channel.send_async(&item).now_or_never() {
            result.unwrap();
            sent += 1;
        }
        for _ in 0..10 {
            assert!(channel.send_async(&item).now_or_never().is_none());
        }
        signal(&gateway, "CONT");
        channel.send_async(&item).await.unwrap();
        channel.end_sending();
        assert_eq!(channel.receive_async::<u32>().await, Ok(sent + 1));
    }

    a_sink_that_is_closed_ends_the_items_there {
        let (_group, gateway) = gateway().await;
        let channel = gateway.remote_exec("for item in channel: channel.send(item + 1)\nchannel.send(-1)").unwrap();
        let sink = stream::iter(0..5000).map(Ok).forward(channel.sink());
        let (sent, numbers) = join(sink, channel.stream::<i64>().try_collect::<Vec<_>>()).await;
        sent.unwrap();
        let numbers = numbers.unwrap();
        assert_eq!(numbers, (1..=5000).chain([-1]).collect::<Vec<_>>());
        assert!(matches!(channel.send(&1), Err(SendError::Closed { .. })));
    }

    a_sink_is_flushed_once_the_system_has_all {
        let (_group, gateway) = gateway().await;
        let channel = gateway.remote_exec("total = sum(len(item) for item in channel)\nchannel.send(total)").unwrap();
        let mut sink = channel.sink();
        for _ in 0..20 {
            sink.feed("x".repeat(1_000_000)).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(channel.receive_async::<u64>().await, Ok(20_000_000));
    }

    an_error_of_the_far_end_comes_before_the_end_of_a_stream {
        let (_group, gateway) = gateway().await;
        let channel = gateway.remote_exec("channel.send(1)\nchannel.send('x')\nraise ValueError('no')").unwrap();
        let items: Vec<_> = channel.stream::<i64>().collect().await;
        assert_eq!(items.len(), 3);
        assert_eq!(items[0], Ok(1));
        assert!(matches!(&items[1], Err(ReceiveError::Decode(_))));
        assert!(matches!(&items[2], Err(ReceiveError::Remote(error)) if error.type_name() == "ValueError"));
    }

    a_queue_is_a_stream_of_all_its_channels {
        let group = Group::new();
        group.make_gateways_async(["popen"; 3]).await.unwrap();
        let queue = group.remote_exec("for number in range(100): channel.send(number)").unwrap().receive_queue().unwrap();
        let events: Vec<_> = queue.clone().collect().await;
        assert_eq!(events.iter().filter(|event| matches!(event.item, Item::Data(_))).count(), 300);
        assert_eq!(events.iter().filter(|event| matches!(event.item, Item::End(_))).count(), 3);
        assert!(queue.next_event_async().await.is_none());
        assert!(poll_immediate(pin!(queue.get_async())).await.is_none());
    }

    receiving_from_each_that_is_cancelled_takes_nothing {
        let group = Group::new();
        group.make_gateways_async(["popen"; 2]).await.unwrap();
        let channels = group.remote_exec("for item in channel: channel.send(item)").unwrap();
        let queued = channels[0].clone();
        queued.send_async(&1).await.unwrap();
        queued.send_async(&2).await.unwrap();
        assert_eq!(queued.receive_async::<i64>().await, Ok(1));
        for _ in 0..100 {
            assert!(poll_immediate(pin!(channels.receive_each_async::<i64>())).await.is_none());
            give_way().await;
        }
        channels[1].send_async(&3).await.unwrap();
        assert_eq!(channels.receive_each_async::<i64>().await, Ok(vec![2, 3]));
    }

    the_end_of_a_gateway_reaches_all_that_wait {
        let (_group, gateway) = gateway().await;
        let channel = echo(&gateway);
        let waiting = join(channel.receive_async::<i64>(), channel.wait_close_async());
        let ((received, closed), reason) = join(waiting, async {
            give_way().await;
            gateway.kill();
            gateway.wait_async().await
        })
        .await;
        assert_eq!(*reason.unwrap().cause(), Cause::Killed);
        assert!(matches!(received, Err(ReceiveError::End(ChannelEnd::Gateway(_)))));
        assert!(matches!(closed, Err(ReceiveError::End(ChannelEnd::Gateway(_)))));
        assert!(matches!(channel.send_async(&1).await, Err(SendError::Closed { .. })));
        assert!(gateway.remote_status_async().await.is_err());
    }

    a_future_waits_beside_a_thread_that_reads {
        let (_group, gateway) = gateway().await;
        let (channel, other) = (echo(&gateway), echo(&gateway));
        let thread = std::thread::spawn(move || {
            for number in 0..2000 {
                other.send(&number).unwrap();
                assert_eq!(other.receive::<i64>().unwrap(), number);
            }
        });
        for number in 0..2000 {
            channel.send_async(&number).await.unwrap();
            assert_eq!(channel.receive_async::<i64>().await, Ok(number));
        }
        thread.join().unwrap();
        channel.send_async(&1).await.unwrap();
        assert_eq!(channel.receive_async::<i64>().await, Ok(1));
    }

    an_item_of_a_mapped_stream_that_takes_too_long_is_told {
        let group = Group::new();
        group.make_gateways_async(["popen"; 2]).await.unwrap();
        let function = Function::Imported { module: "time".into(), call: "sleep".into() };
        let mut options = MapOptions::default();
        options.timeout = Some(Duration::from_millis(200));
        options.retries = 0;
        let results: Vec<_> = group.map::<_, ()>(&function, [0, 60], options).unwrap().stream().collect().await;
        assert!(
            matches!(&results[..], [Ok(()), Err(ResultError::Task { error: TaskError::TimedOut(_), .. })]),
            "{results:?}"
        );
    }

    a_tree_is_sent {
        let folder = tempfile::tempdir().unwrap();
        let (source, there) = (folder.path().join("source"), folder.path().join("there"));
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("hello"), "world").unwrap();
        let (_group, gateway) = gateway().await;
        let report = Rsync::new(&source).to(&gateway, &there).send_async().await.unwrap();
        assert_eq!(report.targets[0].files, 1);
        assert_eq!(std::fs::read_to_string(there.join("hello")).unwrap(), "world");
    }

    a_start_that_is_cancelled_leaves_nothing {
        let group = Group::new();
        // What never answers, and can be recognized.
        let mark = format!("3{:?}", std::thread::current().id()).replace(|digit: char| !digit.is_ascii_digit(), "");
        let mark = format!("{mark}{}", std::process::id());
        let spec = format!("popen//python=sh -c 'sleep 1000; : \"$1\"' {mark}");
        let mut start = Box::pin(group.make_gateway_async(spec.as_str()));
        assert!(poll_immediate(&mut start).await.is_none());
        while !runs(&mark) {
            give_way().await;
        }
        drop(start);
        let began = Instant::now();
        while runs(&mark) {
            assert!(began.elapsed() < Duration::from_secs(20));
            give_way().await;
        }
        assert!(group.is_empty());

        // One that is over before it is cancelled, if its thread is not quicker than the first poll.
        loop {
            let mut start = Box::pin(group.make_gateway_async("popen"));
            if let Some(started) = poll_immediate(&mut start).await {
                group.remove(&started.unwrap());
                continue;
            }
            while group.is_empty() {
                give_way().await;
            }
            let started = group.gateways().remove(0);
            drop(start);
            assert_eq!(*started.wait_async().await.unwrap().cause(), Cause::Killed);
            assert!(group.is_empty());
            break;
        }
    }
}

fn signal(gateway: &Gateway, name: &str) {
    let pid = gateway.pid().unwrap().to_string();
    let status = std::process::Command::new("kill").args(["-s", name, &pid]).status();
    assert!(status.unwrap().success());
}

/// Whether a process has this among its arguments.
fn runs(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.into_iter().any(|line| line.split(|&byte| byte == 0).any(|word| word == argument.as_bytes()))
}

/// A waker is code of others; one that used its channel at once used to find the locks held that this takes.
#[test]
fn a_waker_may_use_the_channel_that_wakes_it() {
    struct Closes(Channel, mpsc::Sender<()>, AtomicUsize);

    impl Wake for Closes {
        fn wake(self: Arc<Self>) {
            self.2.fetch_add(1, Ordering::SeqCst);
            assert!(self.0.try_receive_payload().is_some());
            self.0.close();
            let _ = self.1.send(());
        }
    }

    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let channel = echo(&gateway);
    let (woken, is_woken) = mpsc::channel();
    let closes = Arc::new(Closes(channel.clone(), woken, AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&closes));
    let mut receiving = Box::pin(channel.receive_async::<i64>());
    assert!(receiving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    channel.send(&1).unwrap();
    is_woken.recv_timeout(Duration::from_secs(20)).unwrap();
    channel.wait_close(&Wait::at_most(Duration::from_secs(20))).unwrap();
    assert_eq!(closes.2.load(Ordering::SeqCst), 1);
}

on_each! {
    a_limited_sink_waits_until_something_is_taken {
        let (_group, gateway) = gateway().await;
        let source = farexec::Source::text("go = channel.receive(); go.receive(); channel.send([channel.receive() for _ in range(20)])");
        let channel = gateway.remote_exec(source.max_pending(5)).unwrap();
        let go = gateway.new_channel().unwrap();
        channel.reserve(&Wait::forever()).unwrap();
        channel.start_sending(&farexec::Value::Channel(go.id())).unwrap();
        let sent = AtomicUsize::new(0);
        let all = async {
            let mut sink = channel.sink::<i64>();
            for number in 0..20 {
                // Asked for room again and again, it reserves once.
                std::future::poll_fn(|context| sink.poll_ready_unpin(context)).await.unwrap();
                std::future::poll_fn(|context| sink.poll_ready_unpin(context)).await.unwrap();
                sink.start_send_unpin(number).unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
            sink.flush().await.unwrap();
        };
        let mut all = pin!(all);
        assert!(poll_immediate(&mut all).await.is_none());
        assert_eq!(sent.load(Ordering::SeqCst), 4);
        go.send_async(&()).await.unwrap();
        let (received, ()) = join(channel.receive_async::<Vec<i64>>(), all).await;
        assert_eq!(received.unwrap(), (0..20).collect::<Vec<_>>());
    }
}
