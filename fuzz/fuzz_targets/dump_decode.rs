//! Any bytes as stored data: an object or a typed error. An object is written and read as the same again.

#![no_main]

use farexec_proto::ValueBuilder;
use farexec_proto::encoding::{StringCoercion, dump};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for py2str_as_py3str in [false, true] {
        let coercion = StringCoercion { py2str_as_py3str, py3str_as_py2str: false };
        match dump::loads(data, coercion, &mut ValueBuilder) {
            Ok(value) => {
                let written = dump::dumps(&value).unwrap();
                let again = dump::loads(&written, coercion, &mut ValueBuilder).unwrap();
                // NaN is not equal to itself, but prints like itself.
                assert_eq!(again.to_string(), value.to_string());
            }
            Err(error) => assert!(error.offset().is_some_and(|offset| offset <= data.len())),
        }
    }
});
