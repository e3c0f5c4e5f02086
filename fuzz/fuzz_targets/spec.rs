//! Any text as a spec: it is one, and then prints as it was written and means the same again; or there is an error that says what of it is wrong.

#![no_main]

use farexec::Spec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Spec>() {
        Ok(spec) => {
            assert_eq!(spec.to_string(), text);
            let again: Spec = spec.to_string().parse().unwrap();
            assert_eq!(format!("{again:?}"), format!("{spec:?}"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
