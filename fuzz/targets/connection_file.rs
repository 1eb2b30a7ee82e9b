#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmspell::fuzz::connection_file(bytes));
