//! Target `keyring`; its body is in `tests/it/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: gossipykv_fuzz::plant("keyring"),
    |data: &[u8]| gossipykv_fuzz::run("keyring", data)
);
