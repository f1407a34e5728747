#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pidctl_fuzz::proc(bytes));
