//! Runs targets on inputs. Built by `cargo run -p xtask -- fuzz` this is libFuzzer with the target
//! named in `KEEL_FUZZ_TARGET`; built as usual it replays files: `fuzz TARGET FILE…`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static CHOSEN: std::sync::OnceLock<fuzz::Target> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("KEEL_FUZZ_TARGET").unwrap_or_default();
        fuzz::find(&name).expect("KEEL_FUZZ_TARGET names a target")
    });
    (chosen.run)(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next().and_then(|name| fuzz::find(&name)) else {
        eprintln!("usage: fuzz TARGET FILE…");
        fuzz::TARGETS.iter().for_each(|target| eprintln!("  {:9} {}", target.name, target.about));
        return std::process::ExitCode::from(2);
    };
    for path in arguments {
        match std::fs::read(&path) {
            Ok(bytes) => (target.run)(&bytes),
            Err(error) => {
                eprintln!("error: read {path}: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
