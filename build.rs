//! Has the linker bring libxmlsec1's loading of keys past `pipeline/verify/saml/xmlsec.rs`, which keeps what was loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-link-arg=-Wl,--wrap=xmlSecOpenSSLAppKeyLoadMemory");
    }
}
