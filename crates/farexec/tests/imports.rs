//! Modules that a worker misses come from here, those that were named and no others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use farexec::{AllowError, CallError, Gateway, Group, ReceiveError, Source, Value};

const MODULES: [(&str, &str); 10] = [
    ("far_alone.py", "\u{feff}import far_package\ndef answer(): return far_package.VALUE + 1"),
    ("far_package/__init__.py", "VALUE = 41\nfrom . import inner"),
    ("far_package/inner.py", "from .deep.down import depth\ndef fail(): raise ValueError('inside')"),
    ("far_package/deep/__init__.py", ""),
    ("far_package/deep/down.py", "depth = 3"),
    ("far_space/module.py", "x = 5"),
    ("far_secret.py", "raise RuntimeError('nobody allowed that')"),
    ("other/far_space.py", "x = 6"),
    ("other/far_alone.py", "def answer(): return 'that of the other root'"),
    ("decimal.py", "ours = True"),
];

fn with_modules(test: impl FnOnce(&Gateway, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in MODULES {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let group = Group::new();
    test(&group.make_gateway("popen").unwrap(), folder.path());
    group.terminate(Duration::from_secs(20)).unwrap();
}

fn error_of(gateway: &Gateway, source: &str) -> String {
    match gateway.remote_exec(source).unwrap().receive::<Value>().unwrap_err() {
        ReceiveError::Remote(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_missing_comes_from_here_with_all_that_is_in_it() {
    with_modules(|gateway, root| {
        gateway.allow_imports(["far_package", "far_alone"], [root]).unwrap();
        assert_eq!(gateway.call::<i64>("far_alone:answer", &()).unwrap(), 42);
        let ask = "import far_package.inner as i; channel.send((i.depth, i.__file__))";
        let found: (i64, String) = gateway.remote_exec(ask).unwrap().receive().unwrap();
        assert_eq!(found, (3, root.join("far_package/inner.py").to_string_lossy().into_owned()));
        match gateway.call::<()>("far_package.inner:fail", &()).unwrap_err() {
            CallError::Raised(error) => assert!(error.to_string().contains("def fail(): raise"), "{error}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_future_allows_them_too_and_a_second_call_further_ones() {
    with_modules(|gateway, root| {
        futures::executor::block_on(async {
            gateway.allow_imports_async(["far_alone"], [root]).await.unwrap();
            gateway.allow_imports_async(["far_package"], [root]).await.unwrap();
            assert_eq!(gateway.call_async::<i64>("far_alone:answer", &()).await.unwrap(), 42);
        });
    });
}

#[test]
fn the_first_root_wins_and_a_module_wins_over_a_folder() {
    with_modules(|gateway, root| {
        let other = root.join("other");
        gateway.allow_imports(["far_alone"], [&other, root]).unwrap();
        assert_eq!(gateway.call::<String>("far_alone:answer", &()).unwrap(), "that of the other root");
        gateway.allow_imports(["far_space"], [root, &other]).unwrap();
        let ask = "import far_space; channel.send(far_space.x)";
        assert_eq!(gateway.remote_exec(ask).unwrap().receive::<i64>().unwrap(), 6);
    });
    with_modules(|gateway, root| {
        gateway.allow_imports(["far_space"], [root]).unwrap();
        let ask = "import far_space.module as m; channel.send(m.x)";
        assert_eq!(gateway.remote_exec(ask).unwrap().receive::<i64>().unwrap(), 5);
    });
}

#[test]
fn nothing_else_comes() {
    with_modules(|gateway, root| {
        gateway.allow_imports(["far_package", "decimal"], [root]).unwrap();
        assert!(error_of(gateway, "import far_secret").contains("No module named 'far_secret'"));
        assert!(
            error_of(gateway, "import far_package.missing").contains("No module named 'far_package.missing'")
        );
        // What the worker has is its own.
        let ask = "import decimal; channel.send(hasattr(decimal, 'ours'))";
        assert!(!gateway.remote_exec(ask).unwrap().receive::<bool>().unwrap());
    });
}

#[test]
fn a_worker_that_asks_for_more_gets_nothing() {
    let ask = r#"
        import sys
        finder = [finder for finder in sys.meta_path if type(finder).__name__ == "Finder"][0]
        finder.channel.send(name)
        channel.send(finder.channel.receive())
    "#;
    with_modules(|gateway, root| {
        gateway.allow_imports(["far_package"], [root]).unwrap();
        let named = [
            "far_secret",
            "far_package.inner.x",
            "../far_secret",
            "far_package..inner",
            "far_package./etc/x",
            "",
        ];
        let asked = named.map(Value::from).into_iter().chain([Value::Int(7), Value::None]);
        for name in asked.chain([Value::Bytes(vec![255])]) {
            let channel = gateway.remote_exec(Source::text(ask).with("name", name.clone())).unwrap();
            assert_eq!(channel.receive::<Value>().unwrap(), Value::None, "{name}");
        }
        let channel = gateway.remote_exec(Source::text(ask).with("name", "far_package.inner")).unwrap();
        assert!(
            matches!(channel.receive::<Value>().unwrap(), Value::Tuple(_)),
            "what is allowed still comes"
        );
    });
}

#[test]
fn what_cannot_be_sent_is_refused_here() {
    with_modules(|gateway, root| {
        fs::write(root.join("far_latin.py"), b"# -*- coding: latin-1 -*-\nname = '\xe9'").unwrap();
        for name in ["far_nothing", "far_latin"] {
            let error = gateway.allow_imports(["far_package", name], [root]).unwrap_err();
            let text = format!("there is no module `{name}` that has a text to send in `{}`", root.display());
            assert_eq!(error.to_string(), text);
        }
        for name in ["far_package.inner", "", "../far_secret", "7up"] {
            let error = gateway.allow_imports(["far_package", name], [root]).unwrap_err();
            assert!(matches!(&error, AllowError::Name(wrong) if wrong == name), "{error:?}");
        }
        assert!(error_of(gateway, "import far_package").contains("No module named 'far_package'"));
    });
}

#[test]
fn a_worker_that_cannot_says_so() {
    with_modules(|_, root| {
        let group = Group::new();
        let gateway = group.make_gateway("popen//threads=none").unwrap();
        let error = gateway.allow_imports(["far_package"], [root]).unwrap_err();
        assert!(matches!(error, AllowError::Worker(ReceiveError::Remote(_))), "{error:?}");
        group.terminate(Duration::from_secs(20)).unwrap();
        assert!(matches!(gateway.allow_imports(["far_package"], [root]), Err(AllowError::Exec(_))));
    });
}
