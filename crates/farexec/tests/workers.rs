//! Workers as processes: how they start and fail to, how they end and by what, and that nothing of them stays behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use farexec::{
    Cause, ChannelEnd, Gateway, Group, Item, ReceiveError, Source, Spec, StartError, Termination, Value, Wait,
};

fn soon() -> Wait<'static> {
    Wait::at_most(Duration::from_secs(20))
}

fn is_running(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // A zombie runs no more: whoever adopted it is slow.
        Ok(stat) => !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'),
        Err(_) => false,
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within ten seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A file that is removed in the end. None is executed itself: a test beside this one may fork while it is open for writing, and the system
/// would then find its text busy.
fn script(name: &str, text: &str) -> tempfile::TempPath {
    let file = tempfile::Builder::new().suffix(name).tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file.into_temp_path()
}

fn start_error(spec: &str) -> StartError {
    let group = Group::new();
    let error = group.make_gateway(spec).map(drop).unwrap_err();
    assert!(group.is_empty());
    error
}

#[test]
fn a_missing_interpreter_is_told_apart() {
    let error = start_error("popen//python=no-such-python -X dev");
    assert!(matches!(error, StartError::NoInterpreter { .. }));
    let text = error.to_string();
    assert!(
        text.contains("no interpreter `no-such-python`") && text.contains("no-such-python -X dev -c"),
        "{text}"
    );
}

#[test]
fn a_program_that_is_no_python_is_told_apart() {
    let error = start_error("popen//python=echo hello");
    assert_eq!(error.cause(), Some(&Cause::Exited(0)));
    assert!(error.to_string().contains("it printed:\nhello"), "{error}");
    let error = start_error("popen//python=cat");
    assert_eq!(error.cause(), Some(&Cause::Exited(1)), "{error}");
    assert!(error.to_string().contains("cat:"), "{error}");
}

#[test]
fn an_interpreter_that_dies_while_starting_is_explained() {
    let path = script("dies", "echo 'libpython is missing' >&2\nexit 127\n");
    let error = start_error(&format!("popen//python=sh {}", path.display()));
    assert_eq!(error.cause(), Some(&Cause::Exited(127)));
    let text = error.to_string();
    assert!(text.contains("exited with status 127") && text.contains("libpython is missing"), "{text}");
    let path = script("killed", "kill -9 $$\n");
    let error = start_error(&format!("popen//python=sh {}", path.display()));
    assert_eq!(error.cause(), Some(&Cause::Signaled(9)), "{error}");
}

#[test]
fn a_banner_before_the_hello_is_skipped() {
    let text = "echo 'Welcome! You have mail.'\nprintf '\\000\\376FAR'\nexec python3 \"$@\"\n";
    let path = script("banner", text);
    let group = Group::new();
    let gateway = group.make_gateway(format!("popen//python=sh {}", path.display())).unwrap();
    assert_eq!(gateway.remote_exec("channel.send(1)").unwrap().receive::<i64>().unwrap(), 1);
}

#[test]
fn endless_chatter_is_given_up() {
    let error = start_error("popen//python=sh -c 'exec yes'");
    assert!(error.to_string().contains("no farexec worker answered within the first"), "{error}");
}

#[test]
fn one_failure_leaves_no_member_behind() {
    let group = Group::new();
    let error = group.make_gateways(["popen", "popen//python=false", "popen"]).map(drop).unwrap_err();
    assert!(matches!(error, StartError::NoAnswer { .. }), "{error}");
    assert!(group.is_empty());
    let error = group.make_gateways(["id=a", "id=a"]).map(drop).unwrap_err();
    assert!(matches!(error, StartError::DuplicateId(_)));
}

#[test]
#[cfg(target_os = "linux")]
fn a_group_shares_a_template_once_its_interpreter_is_known() {
    let group = Group::new();
    // The first says what `python3` is here, which may be a script's choice.
    group.make_gateways(["popen//start=template//env:FAREXEC_TEST=1"; 4]).unwrap();
    let source = "
        import os, sys
        channel.send((os.getppid(), os.environ['FAREXEC_TEST'], os.environ.get('PYENV_VERSION'), sys.executable))
    ";
    let channels = group.remote_exec(source).unwrap();
    let seen = channels.receive_each::<(u32, String, Option<String>, String)>().unwrap();
    let parents: Vec<u32> = seen.iter().map(|(parent, ..)| *parent).collect();
    assert_eq!(parents[0], std::process::id());
    assert!(
        parents[1] != parents[0] && parents[1..].iter().all(|parent| *parent == parents[1]),
        "{parents:?}"
    );
    let same = |(_, test, version, executable): &(u32, String, Option<String>, String)| {
        (test, version, executable) == (&seen[0].1, &seen[0].2, &seen[0].3)
    };
    assert!(seen.iter().all(same), "{seen:?}");
}

#[test]
fn environment_directory_and_niceness_are_there_when_the_process_starts() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("made/deep");
    let spec =
        format!("popen//chdir={}//nice=3//env:FAREXEC_TEST=yes//env:PYTHONHASHSEED=0", directory.display());
    let group = Group::new();
    let gateway = group.make_gateway(spec).unwrap();
    let source = "
        import os, sys
        channel.send((os.getcwd(), os.nice(0), os.environ['FAREXEC_TEST'], sys.flags.hash_randomization))
    ";
    let (cwd, nice, value, randomized): (String, i64, String, i64) =
        gateway.remote_exec(source).unwrap().receive().unwrap();
    assert_eq!(PathBuf::from(cwd), directory.canonicalize().unwrap());
    assert_eq!((&*value, randomized), ("yes", 0), "PYTHONHASHSEED counts only if it is there from the start");
    assert!(nice >= 3);
}

#[test]
fn a_killed_worker_is_explained_and_every_end_is_told_within_a_second() {
    let group = Group::new();
    let gateways = group.make_gateways(["popen"; 3]).unwrap();
    let channels = group.remote_exec("channel.receive()").unwrap();
    let second = gateways[1].remote_exec("channel.receive()").unwrap();
    let queue = channels.receive_queue().unwrap();
    let waiting = second.clone();
    let thread = std::thread::spawn(move || waiting.receive::<Value>());
    std::thread::sleep(Duration::from_millis(200));

    let began = Instant::now();
    let pid = gateways[1].pid().unwrap();
    std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    let event = queue.get(&soon()).unwrap();
    let Item::End(ChannelEnd::Gateway(reason)) = event.item else { panic!("{event:?}") };
    assert!(matches!(thread.join().unwrap(), Err(ReceiveError::End(ChannelEnd::Gateway(_)))));
    assert!(began.elapsed() < Duration::from_secs(1));

    assert_eq!((event.index, reason.cause()), (1, &Cause::Signaled(9)));
    assert!(
        reason.to_string().contains(&format!("worker gw1 (pid {pid}) was ended by signal 9 (SIGKILL)")),
        "{reason}"
    );
    assert_eq!(gateways[1].return_code(), Some(-9));
    assert!(second.send(&1).unwrap_err().to_string().contains("SIGKILL"));
    group.terminate(Duration::from_secs(5)).unwrap();
    let ends: Vec<_> = queue.map(|event| (event.index, matches!(event.item, Item::End(_)))).collect();
    assert_eq!(ends.len(), 2, "each end once: {ends:?}");
}

#[test]
fn last_words_and_exit_status_explain_a_death() {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let source = "import os; os.write(2, b'out of cheese\\n'); os._exit(7)";
    let channel = gateway.remote_exec(source).unwrap();
    let Err(ReceiveError::End(end)) = channel.receive::<Value>() else { panic!("no end") };
    let text = end.to_string();
    assert!(text.contains("exited with status 7") && text.contains("out of cheese"), "{text}");
    assert_eq!(gateway.return_code(), Some(7));
    assert!(gateway.remote_exec("pass").is_err());
}

/// A process that a worker started holds the pipe open; the worker's end must be noticed all the same.
#[test]
fn a_grandchild_that_holds_the_pipe_does_not_hide_the_death() {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let source = "
        import os, sys, time
        reading, writing = os.pipe()
        grandchild = os.fork()
        if grandchild == 0:
            os.setsid()
            os.write(writing, b'1')
            time.sleep(20)
            os._exit(0)
        os.read(reading, 1)
        channel.send(grandchild)
        os._exit(3)
    ";
    let began = Instant::now();
    let channel = gateway.remote_exec(source).unwrap();
    let grandchild: u32 = channel.receive().unwrap();
    assert!(matches!(channel.receive::<Value>(), Err(ReceiveError::End(_))));
    assert_eq!(gateway.end_reason().unwrap().cause(), &Cause::Exited(3));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(
        std::process::Command::new("kill").arg("-9").arg(grandchild.to_string()).status().unwrap().success()
    );
}

#[test]
fn terminate_ends_what_does_not_end_by_itself() {
    let group = Group::new();
    let gateways = group.make_gateways(["popen"; 3]).unwrap();
    gateways[0].remote_exec("channel.receive()").unwrap();
    let stubborn = "
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = subprocess.Popen(['sleep', '600'])
        channel.send(child.pid)
        while True:
            time.sleep(1)
    ";
    let busy = gateways[1].remote_exec(stubborn).unwrap();
    let grandchild: u32 = busy.receive().unwrap();
    let began = Instant::now();
    let results = group.terminate(Duration::from_millis(500)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));
    let of = |index: usize| results.iter().find(|(gateway, _)| *gateway == gateways[index]).unwrap().1;
    assert_eq!((of(0), of(1), of(2)), (Termination::Ended, Termination::Killed, Termination::Ended));
    assert_eq!(gateways[1].return_code(), Some(-9));
    assert!(group.is_empty());
    for pid in gateways.iter().filter_map(farexec::Gateway::pid).chain([grandchild]) {
        wait_until("a worker, or what it started, goes on", || !is_running(pid));
    }
}

#[test]
fn what_an_idle_worker_started_ends_with_it() {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let source = "import subprocess; channel.send(subprocess.Popen(['sleep', '600']).pid)";
    let grandchild: u32 = gateway.remote_exec(source).unwrap().receive().unwrap();
    assert!(is_running(grandchild));
    group.terminate(Duration::from_secs(5)).unwrap();
    wait_until("the grandchild goes on", || !is_running(grandchild));
}

#[test]
fn a_dropped_group_leaves_nothing_running() {
    let group = Group::new();
    let gateways = group.make_gateways(["popen"; 2]).unwrap();
    let pids: Vec<u32> = gateways.iter().filter_map(farexec::Gateway::pid).collect();
    drop(gateways);
    drop(group);
    for pid in pids {
        wait_until("a worker goes on", || !is_running(pid));
    }
}

#[test]
fn status_is_answered_while_the_worker_computes() {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let source = "
        import time
        channel.send('begun')
        until = time.time() + 3
        while time.time() < until:
            pass
    ";
    let channel = gateway.remote_exec(source).unwrap();
    assert_eq!(channel.receive::<String>().unwrap(), "begun");
    let began = Instant::now();
    let status = gateway.remote_status(&soon()).unwrap();
    assert_eq!((status.channels, status.executing, &*status.execmodel), (1, 1, "thread"));
    assert!(began.elapsed() < Duration::from_secs(2), "status must not wait for the execution");
}

#[test]
fn the_first_execution_has_the_main_thread_and_a_second_is_refused_if_asked_so() {
    let is_main = "import threading; channel.send(threading.current_thread() is threading.main_thread())";
    let group = Group::new();
    let gateway = group.make_gateway("popen//execmodel=main_thread_only").unwrap();
    for _ in 0..3 {
        let channel = gateway.remote_exec(is_main).unwrap();
        assert!(channel.receive::<bool>().unwrap());
        channel.wait_close(&soon()).unwrap();
    }
    let busy = gateway.remote_exec("channel.send(1); channel.receive()").unwrap();
    busy.receive::<i64>().unwrap();
    let refused = gateway.remote_exec("pass").unwrap();
    let Err(ReceiveError::Remote(error)) = refused.wait_close(&soon()) else { panic!("not refused") };
    assert!(error.text().contains("main_thread_only"), "{error}");
}

#[test]
fn a_function_in_a_file_is_called_with_its_arguments() {
    let path = script(
        "function.py",
        "\n\ndef scale(channel, factor):\n    channel.send(channel.receive() * factor)\n    1 / 0\n",
    );
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let channel = gateway.remote_exec(Source::function(&*path, "scale").with("factor", 7)).unwrap();
    channel.send(&6).unwrap();
    assert_eq!(channel.receive::<i64>().unwrap(), 42);
    let Err(ReceiveError::Remote(error)) = channel.receive::<Value>() else { panic!("no error") };
    let place = format!("{}\", line 5, in scale", path.canonicalize().unwrap().display());
    assert!(error.text().contains(&place), "{error}");
    let error = gateway.remote_exec(Source::file("/no/such/file.py")).unwrap_err();
    assert!(error.to_string().contains("/no/such/file.py"));
}

/// Every thread of a coordinator may start gateways; the workers live on when the thread ends.
#[test]
fn a_worker_outlives_the_thread_that_started_it() {
    let group = Group::new();
    let maker = group.clone();
    let gateway = std::thread::spawn(move || maker.make_gateway("popen").unwrap()).join().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(gateway.remote_exec("channel.send(5)").unwrap().receive::<i64>().unwrap(), 5);
}

/// What a command that is run in a container from without sees: its session and its process group have no numbers there.
#[test]
#[cfg(target_os = "linux")]
fn a_program_whose_session_is_outside_of_its_namespace_starts_workers() {
    const INSIDE: &str = "FAREXEC_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let group = Group::new();
        group.make_gateways(["popen", "popen//start=spawn"]).unwrap();
        let channels = group.remote_exec(Source::text("channel.send(1)")).unwrap();
        for channel in channels.iter() {
            assert_eq!(channel.receive::<i64>().unwrap(), 1);
        }
        group.terminate(Duration::from_secs(10)).unwrap();
        println!("inside: done");
        return;
    }
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "a_program_whose_session_is_outside_of_its_namespace_starts_workers",
        ])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (told, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if complained.starts_with("unshare:")
        && std::env::var_os("FAREXEC_SERVERS").is_none_or(|all| all != "all")
    {
        eprintln!("not tested, since this machine lets no namespaces be made: {complained}");
        return;
    }
    assert!(output.status.success() && told.contains("inside: done"), "{told}{complained}");
}

#[test]
fn a_worker_that_fails_takes_no_other_along_if_each_starts_on_its_own() {
    let group = Group::new();
    let specs =
        ["popen//id=a", "popen//python=no-such-python", "popen//id=a", "popen//via=a", "popen//via=lost"];
    let specs: Vec<Spec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
    let started = group.start_each(specs.clone(), &Wait::forever());
    let outcome = |result: &Result<Gateway, StartError>| match result {
        Ok(_) => "started",
        Err(StartError::NoInterpreter { .. }) => "no interpreter",
        Err(StartError::DuplicateId(_)) => "duplicate",
        Err(StartError::NoRelay { .. }) => "no relay",
        Err(_) => "something else",
    };
    let outcomes: Vec<_> = started.iter().map(outcome).collect();
    assert_eq!(outcomes, ["started", "no interpreter", "duplicate", "started", "no relay"]);
    assert_eq!(group.len(), 2);
    for gateway in group.gateways() {
        let channel = gateway.remote_exec("channel.send(1)").unwrap();
        assert_eq!(channel.receive::<i64>().unwrap(), 1);
    }
    // And what starts together is there as a whole, or not at all; with nothing started for an id that is taken.
    assert!(matches!(group.start(specs[2..4].to_vec(), &Wait::forever()), Err(StartError::DuplicateId(_))));
    assert_eq!(group.len(), 2);
}

/// Answers of a template come in the order of the questions. Two threads that asked at once used to note their questions in one order and send
/// them in the other, so that each took the other's worker for its own: a gateway ended when the other's process exited.
#[test]
fn gateways_that_threads_start_at_once_know_their_own_processes() {
    std::thread::scope(|scope| {
        for status in 1..=8 {
            scope.spawn(move || {
                for _ in 0..8 {
                    let group = Group::new();
                    let gateways = group.make_gateways(["popen"; 8]).unwrap();
                    let code = format!("channel.receive(); import os; os._exit({status})");
                    group.remote_exec(code.as_str()).unwrap().send_each(&()).unwrap();
                    for gateway in gateways {
                        assert_eq!(*gateway.wait(&soon()).unwrap().cause(), Cause::Exited(status));
                    }
                }
            });
        }
    });
}

#[test]
fn what_is_starting_when_a_group_is_ended_ends_with_it() {
    for pause in (0..40).step_by(4) {
        let group = Group::new();
        let starting = group.clone();
        let thread = std::thread::spawn(move || starting.make_gateways(["popen//start=spawn", "popen"]));
        std::thread::sleep(Duration::from_millis(pause));
        group.terminate(Duration::from_secs(10)).unwrap();
        assert!(group.is_empty());
        match thread.join().unwrap() {
            // It had not begun, or it was there before.
            Ok(gateways) => {
                group.terminate(Duration::from_secs(10)).unwrap();
                let pids = gateways.iter().filter_map(farexec::Gateway::pid);
                pids.for_each(|pid| wait_until("a worker goes on", || !is_running(pid)));
            }
            Err(error) => assert!(matches!(error, StartError::Terminated), "{error}"),
        }
        assert!(group.is_empty());
    }
}
