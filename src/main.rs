//! Parses the command line, dispatches, has the error chain told. Everything else is in the library.

use std::process::ExitCode;

use regrade::cli::Cli;
use regrade::command::{complain, dispatch, exit_of};

fn main() -> ExitCode {
    let cli = Cli::of_process();
    match dispatch(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&error);
            let exit = exit_of(&error);
            exit.into()
        }
    }
}
