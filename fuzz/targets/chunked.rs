//! Target `chunked`; its body is in `tests/it/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: gossipykv_fuzz::plant("chunked"),
    |data: &[u8]| gossipykv_fuzz::run("chunked", data)
);
