//! Has the program find the library of the interpreter that it is built with, wherever that is installed.

fn main() {
    if let Some(folder) = &pyo3_build_config::get().lib_dir() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
