//! Has the linker bring libxmlsec1's loading of keys past `pipeline/verify/saml/xmlsec.rs`, which keeps what was loaded.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(keys_kept)");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if linux && !loads_its_crypto_later() {
        println!("cargo:rustc-cfg=keys_kept");
        println!("cargo:rustc-link-arg=-Wl,--wrap=xmlSecOpenSSLAppKeyLoadMemory");
    }
}

/// Some distributions build the library so that it looks for its crypto while it runs: no linker stands there. samael asks
/// the same way, and says what is wrong where there is no answer.
fn loads_its_crypto_later() -> bool {
    let flags = Command::new("xmlsec1-config").arg("--cflags").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&flags).contains("-DXMLSEC_CRYPTO_DYNAMIC_LOADING=1")
}
