//! Target `lzw`; its body is in `tests/it/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: gossipykv_fuzz::plant("lzw"),
    |data: &[u8]| gossipykv_fuzz::run("lzw", data)
);
