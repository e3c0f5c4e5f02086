//! Arrays as items, to and from code that has nothing but the standard library, and to and from NumPy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use farexec::worker::{Registry, serve};
use farexec::{ArrayItem, Channel, Group, ReceiveError, SendError, Value};
use ndarray::{Array, Array0, Array1, Array2, ArrayD, s};
use serde::{Deserialize, Serialize};

fn error_of<T: for<'de> Deserialize<'de>>(item: &str) -> String {
    let group = Group::new();
    let channel = group.make_gateway("popen").unwrap().remote_exec(format!("channel.send({item})").as_str());
    match channel.unwrap().receive::<T>() {
        Err(ReceiveError::Decode(error)) => error.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("{item} was taken"),
    }
}

#[test]
fn the_form_is_what_the_page_says() {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let channel = gateway
        .remote_exec(
            "import struct\nt, s, b = channel.receive()\nchannel.send((t, s, struct.unpack('<6h', b)))",
        )
        .unwrap();
    let numbers = Array2::from_shape_vec((2, 3), vec![1_i16, -2, 3, 4, 5, 6]).unwrap();
    channel.send(&ArrayItem(numbers.view())).unwrap();
    let (name, shape, elements): (String, Vec<u64>, Vec<i16>) = channel.receive().unwrap();
    assert_eq!((name.as_str(), shape, elements), ("<i2", vec![2, 3], vec![1, -2, 3, 4, 5, 6]));
}

#[test]
fn elements_that_are_not_side_by_side_come_in_their_order() {
    let group = Group::new();
    let channel =
        group.make_gateway("popen").unwrap().remote_exec("channel.send(channel.receive())").unwrap();
    let numbers = Array::from_shape_fn((4, 6), |(row, column)| (10 * row + column) as f32);
    let part = numbers.slice(s![..;-2, 1..;2]);
    channel.send(&ArrayItem(part.t())).unwrap();
    let back: Array2<f32> = channel.receive::<ArrayItem<_, _>>().unwrap().0;
    assert_eq!(back, part.t());
}

#[test]
fn they_are_parts_of_items_and_may_be_empty() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Batch {
        name: String,
        inputs: Vec<ArrayItem<ndarray::OwnedRepr<u8>, ndarray::IxDyn>>,
    }
    let inputs = vec![
        ArrayItem(ArrayD::zeros(vec![])),
        ArrayItem(ArrayD::zeros(vec![3, 0, 2])),
        ArrayItem(ArrayD::from_elem(vec![1, 2, 1, 2], 7)),
    ];
    let batch = Batch { name: "first".into(), inputs };
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let same = farexec::Function::text("def same(x): return x", "same");
    assert_eq!(gateway.function(same).call::<Batch>(&(&batch,)).unwrap(), batch);
}

#[test]
fn what_is_something_else_says_what() {
    type Wanted = ArrayItem<ndarray::OwnedRepr<f64>, ndarray::Ix2>;
    for (item, why) in [
        ("('>f8', (1, 1), bytes(8))", "an array of `>f8`, where one of `<f8` was to come"),
        ("('<f8', (1, 2), bytes(8))", "an array of the shape [1, 2] does not have 1 elements"),
        ("('<f8', (2**40, 2**40), b'')", "does not have 0 elements"),
        ("('<f8', (1,), bytes(8))", "an array of 1 dimensions, where one of 2 was to come"),
        ("('<f8', (1, 1), bytes(7))", "7 bytes are no whole number of `<f8`"),
        ("('<f8', (-1, 1), bytes(8))", "-1"),
        ("('<f8', (1, 1), 'text')", "expected bytes"),
        ("('<f8', (1, 1))", "expected a tuple of size 3"),
    ] {
        let error = error_of::<Wanted>(item);
        assert!(error.contains(why), "{item}: {error}");
    }
}

#[test]
#[ignore = "FAREXEC_NUMPY has to name an interpreter with NumPy"]
fn numpy_takes_them_and_sends_them() {
    let interpreter = std::env::var("FAREXEC_NUMPY").unwrap();
    let group = Group::new();
    let gateway = group.make_gateway(format!("popen//python={interpreter}").as_str()).unwrap();
    let work = "
        import numpy
        def array(item):
            dtype, shape, data = item
            return numpy.frombuffer(data, dtype).reshape(shape)
        def item(array):
            return array.dtype.str, array.shape, array.tobytes()
        matrix = array(channel.receive())
        channel.send(item(matrix @ matrix.T))
        channel.send(item(matrix.T[::2]))
        channel.send(item(matrix.sum()))
        for name in 'int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64'.split():
            channel.send(item(numpy.arange(3, dtype=name)))
        channel.send(item(numpy.zeros((2, 1, 2), bool)))
    ";
    let channel = gateway.remote_exec(work).unwrap();
    let matrix = Array::from_shape_fn((3, 5), |(row, column)| (row * 5 + column) as f64 / 4.0);
    channel.send(&ArrayItem(matrix.view())).unwrap();
    let product: Array2<f64> = channel.receive::<ArrayItem<_, _>>().unwrap().0;
    assert_eq!(product, matrix.dot(&matrix.t()));
    let part: Array2<f64> = channel.receive::<ArrayItem<_, _>>().unwrap().0;
    assert_eq!(part, matrix.t().slice(s![..;2, ..]));
    let sum: Array0<f64> = channel.receive::<ArrayItem<_, _>>().unwrap().0;
    assert_eq!(sum.into_scalar(), matrix.sum());
    macro_rules! each {
        ($($element:ty)*) => {$(
            let counted: Array1<$element> = channel.receive::<ArrayItem<_, _>>().unwrap().0;
            assert_eq!(counted.to_vec(), [0 as $element, 1 as $element, 2 as $element]);
        )*};
    }
    each!(i8 i16 i32 i64 u8 u16 u32 u64 f32 f64);
    let refused = channel.receive::<ArrayItem<ndarray::OwnedRepr<u8>, ndarray::Ix3>>().unwrap_err();
    assert!(refused.to_string().contains("an array of `|b1`, where one of `|u1` was to come"), "{refused}");
    assert!(matches!(channel.receive::<Value>(), Err(ReceiveError::End(_))));
}

const SERVES: &str = "FAREXEC_TEST_SERVES_ARRAYS";

/// No test, but the worker of the next one.
#[test]
fn worker() {
    #[derive(Deserialize)]
    struct Nothing {}
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let turn = |channel: Channel, _: Nothing| -> Result<(), SendError> {
        while let Ok(ArrayItem(array)) =
            channel.receive::<ArrayItem<ndarray::OwnedRepr<f64>, ndarray::IxDyn>>()
        {
            channel.send(&(array.len(), ArrayItem(array.t())))?;
        }
        Ok(())
    };
    serve(Registry::new().channel_function("turn", turn)).unwrap();
}

/// Between the codec of Python programs and a worker that is a Rust program, which is given none.
#[test]
#[ignore = "FAREXEC_NUMPY has to name an interpreter with NumPy and farexec"]
fn a_program_in_python_sends_arrays_to_one_in_rust() {
    let interpreter = std::env::var("FAREXEC_NUMPY").unwrap();
    let this = std::env::current_exe().unwrap();
    let spec = format!("command=env {SERVES}=1 sh -c 'exec {} --exact worker --nocapture'", this.display());
    let program = "
import sys, farexec, numpy
made = numpy.arange(24.0).reshape(2, 3, 4)
with farexec.Group([sys.argv[1]]) as group:
    group[0].setcodec('numpy')
    channel = group[0].remote_exec('turn')
    for array in (made, made.T, made[::-1, 1:], made[:0], made[0, 0, 0:1].reshape(())):
        channel.send(array)
        count, turned = channel.receive(20)
        assert count == array.size and turned.dtype == array.dtype and numpy.array_equal(turned, array.T), turned
    assert turned.shape == ()
    channel.send(numpy.arange(3))
    channel.waitclose(20)
";
    let ran = std::process::Command::new(interpreter).args(["-c", program, &spec]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
#[ignore = "FAREXEC_NUMPY has to name an interpreter with NumPy"]
fn a_worker_has_arrays_of_numpy_if_it_is_asked_to() {
    let interpreter = std::env::var("FAREXEC_NUMPY").unwrap();
    let group = Group::new();
    for native in ["auto", "no"] {
        let spec = format!("popen//python={interpreter}//native={native}");
        let gateway = group.make_gateway(spec.as_str()).unwrap();
        let before = gateway.remote_exec("channel.send(type(channel.receive()).__name__)").unwrap();
        gateway.use_numpy().unwrap();
        let after = gateway.remote_exec("for item in channel: channel.send({'sum': item + item})").unwrap();
        let numbers = Array::from_shape_fn((4, 6), |(row, column)| (10 * row + column) as f32);
        for part in [numbers.view(), numbers.t(), numbers.slice(s![..;-2, 1..;2]), numbers.slice(s![..0, ..])]
        {
            after.send(&ArrayItem(part)).unwrap();
            let mut sums: std::collections::BTreeMap<
                String,
                ArrayItem<ndarray::OwnedRepr<f32>, ndarray::Ix2>,
            > = after.receive().unwrap();
            assert_eq!(sums.remove("sum").unwrap().0, &part + &part);
        }
        before.send(&ArrayItem(numbers.view())).unwrap();
        assert_eq!(before.receive::<String>().unwrap(), "tuple");
        let same = farexec::Function::text("def same(x): return type(x).__name__", "same");
        let called: String = gateway.function(same).call(&(ArrayItem(numbers.view()),)).unwrap();
        assert_eq!(called, "tuple");
        futures::executor::block_on(gateway.use_numpy_async()).unwrap();
    }
}

#[test]
fn a_worker_without_numpy_says_so() {
    let group = Group::new();
    let gateway = group.make_gateway("popen").unwrap();
    let hidden = gateway.remote_exec("import sys; sys.modules['numpy'] = None").unwrap();
    hidden.wait_close(&farexec::Wait::forever()).unwrap();
    let refused = gateway.use_numpy().unwrap_err().to_string();
    assert!(refused.contains("the codec \"numpy\" needs NumPy at both ends"), "{refused}");
    let channel = gateway.remote_exec("channel.send(channel.receive())").unwrap();
    channel.send("goes on").unwrap();
    assert_eq!(channel.receive::<String>().unwrap(), "goes on");
}
