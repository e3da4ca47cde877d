//! Parses the command line, dispatches, prints the error chain. Everything else is in the library.

use std::io::Write;
use std::process::ExitCode;

use regrade::cli::Cli;
use regrade::command::{dispatch, exit_of};

fn main() -> ExitCode {
    let cli = Cli::of_process();
    match dispatch(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit_of(&error);
            let mut causes: Vec<String> = Vec::new();
            for cause in error.chain().map(ToString::to_string) {
                // Libraries repeat their cause in their own text; once is enough.
                if !causes.iter().any(|said| said.contains(&cause)) {
                    causes.push(cause);
                }
            }
            // Nothing sensible can be done when standard error is closed.
            let text = causes.join(": ");
            let prefix = if text.starts_with("error:") { "" } else { "error: " };
            let _ = writeln!(anstream::stderr(), "{prefix}{text}");
            exit.into()
        }
    }
}
