//! What a process left on its standard streams: the line that says how it ended.
//!
//! Must not know what the process did.

/// Most characters of a line.
const MOST: usize = 200;
/// What Rust prints above the frames of a panic.
const TRACE: &str = "stack backtrace:";

/// The last line that says something, shortened: notes on how to read a backtrace, and its frames, do not.
pub fn last(log: &str) -> Option<String> {
    let mut in_trace = false;
    let (mut said, mut any) = (None, None);
    for line in log.lines().map(str::trim).filter(|line| !line.is_empty()) {
        in_trace = line == TRACE || (in_trace && is_frame(line));
        any = Some(line);
        if !in_trace && !line.starts_with("note:") {
            said = any;
        }
    }
    said.or(any).map(|line| line.chars().take(MOST).collect())
}

/// `12: core::panicking::panic_fmt`, or `at src/main.rs:1:2` below it.
fn is_frame(line: &str) -> bool {
    let numbered = line.split_once(": ").is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    numbered || line.starts_with("at ")
}

/// The line in which a program says that it could not allocate memory, as Rust's standard library words it.
pub fn out_of_memory(log: &str) -> Option<&str> {
    let is_size = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    log.lines().map(str::trim).rfind(|line| {
        line.strip_prefix("memory allocation of ")
            .and_then(|rest| rest.strip_suffix(" bytes failed"))
            .is_some_and(is_size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "starting\n\nthread 'main' (7) panicked at src/main.rs:2:5:\nno such device\nstack backtrace:\n   \
                         0: __rustc::rust_begin_unwind\n             at /rustc/5980/library/std/src/panicking.rs:689:5\n   \
                         1: demo::main\n             at ./src/main.rs:2:5\nnote: Some details are omitted, run with \
                         `RUST_BACKTRACE=full` for a verbose backtrace.\n";

    #[test]
    fn last_words_say_what_happened() {
        assert_eq!(last(PANIC).as_deref(), Some("no such device"));
        assert_eq!(last("a\nTypeError: 3: at 4\n\n").as_deref(), Some("TypeError: 3: at 4"));
        assert_eq!(last("0: no frame without a trace").as_deref(), Some("0: no frame without a trace"));
        let more = format!("{PANIC}and then this\n");
        assert_eq!(last(&more).as_deref(), Some("and then this"));
        assert_eq!(last("note: nothing else\n").as_deref(), Some("note: nothing else"), "better than nothing");
        assert_eq!((last("\n \n"), last(&"x".repeat(999)).map(|line| line.len())), (None, Some(MOST)));
    }

    #[test]
    fn a_refused_allocation_is_recognised() {
        let log = "loading\nmemory allocation of 1099511627776 bytes failed\nstack backtrace:\n   0: main\n";
        assert_eq!(out_of_memory(log), Some("memory allocation of 1099511627776 bytes failed"));
        assert_eq!(out_of_memory("memory allocation of many bytes failed"), None);
        assert_eq!(out_of_memory(PANIC), None);
    }
}
