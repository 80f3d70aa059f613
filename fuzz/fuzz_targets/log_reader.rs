#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_checks::log_reader::check(data));
