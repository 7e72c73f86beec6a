//! Target `push_pull`; its body is in `tests/it/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: gossipykv_fuzz::plant("push_pull"),
    |data: &[u8]| gossipykv_fuzz::run("push_pull", data)
);
