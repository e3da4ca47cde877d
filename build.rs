//! Records the compiler's version: runs keep it as part of their circumstances.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "rustc unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo:rustc-env=REGRADE_RUSTC={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
