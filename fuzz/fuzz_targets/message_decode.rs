//! Any bytes as a payload in the message encoding: an item or a typed error. An item is written and read as the same again.

#![no_main]

use farexec_proto::encoding::{StringCoercion, encode_item};
use farexec_proto::{Encoding, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let coercion = StringCoercion { py2str_as_py3str: false, py3str_as_py2str: false };
    match Value::from_payload(Encoding::Message, payload, coercion) {
        Ok(value) => {
            let mut written = Vec::new();
            assert_eq!(encode_item(&value, &mut written).unwrap(), Encoding::Message);
            let again = Value::from_payload(Encoding::Message, &written, coercion).unwrap();
            // NaN is not equal to itself, but prints like itself.
            assert_eq!(again.to_string(), value.to_string());
        }
        Err(error) => assert!(error.offset().is_some_and(|offset| offset <= payload.len())),
    }
});
