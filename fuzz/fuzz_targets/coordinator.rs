//! A worker that sends any bytes, against a live coordinator. Whatever comes, the coordinator has an answer or an error, and sees the end.

#![no_main]

use farexec::{Group, ReceiveError, Wait, WaitError};
use farexec_fuzz::{HANG, Part, answer, play};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (answers, rest) = input;
    let first = if answers { answer() } else { Vec::new() };
    let group = Group::new();
    if let Ok(gateway) = play(&group, Part { first, cue: b"", then: rest.to_vec() })
        && let Ok(channel) = gateway.remote_exec("pass")
    {
        loop {
            match channel.receive_payload(&Wait::at_most(HANG)) {
                Ok(payload) => drop(payload.value()),
                Err(ReceiveError::Wait(WaitError::Timeout)) => {
                    panic!("the end of the connection was not seen")
                }
                Err(_) => break,
            }
        }
    }
    group.terminate(HANG).unwrap();
    assert!(group.is_empty());
});
