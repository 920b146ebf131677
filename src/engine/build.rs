//! The installed program finds libtorch in `lib` beside itself, so that nothing depends on where it was built.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/lib");
    println!("cargo:rerun-if-changed=build.rs");
}
