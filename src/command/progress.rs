//! Listens to the runner and shows progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::command::context::note;
use crate::domain::{Launch, Metric, OutcomeKind};
use crate::render::format;
use crate::runner::{Event, pairs};
use crate::stats::quantile::median;

/// Shows progress.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    start: Instant,
}

impl Progress {
    /// A bar where standard error is a terminal, lines otherwise, nothing when quiet.
    pub fn new(quiet: bool) -> Self {
        let bar = bar(quiet, Some(0), "{bar:24} {pos}/{len} {prefix} {wide_msg}");
        Self { bar, quiet, start: Instant::now() }
    }

    /// Shows one event.
    pub fn listen(&self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        match event {
            Event::Starting { case, launch, done, total } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*total as u64);
                    bar.set_position(*done as u64);
                    bar.set_prefix(self.left(*done, *total));
                    bar.set_message(format!("{} (round {})", case.id, launch + 1));
                }
            }
            Event::Finished { launch, done, total } => {
                let line = describe(launch);
                match &self.bar {
                    // On a terminal only what went wrong stays on the screen.
                    Some(bar) if launch.outcome.kind != OutcomeKind::Measured => bar.println(line),
                    Some(_) => {}
                    None => note(&format!("[{done}/{total}] {line}, {}", self.left(*done, *total))),
                }
            }
            Event::GivenUp { case } => {
                let line = format!("{}: failed repeatedly, its remaining launches are not attempted", case.id);
                match &self.bar {
                    Some(bar) => bar.println(line),
                    None => note(&line),
                }
            }
        }
    }

    /// Clears the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Time left, by the average so far.
    fn left(&self, done: usize, total: usize) -> String {
        if done == 0 || total <= done {
            return "…".to_owned();
        }
        let each = self.start.elapsed().as_secs_f64() / done as f64;
        let left = Duration::from_secs_f64(each * (total - done) as f64).as_secs();
        format!("{}:{:02} left", left / 60, left % 60)
    }
}

/// A bar on a terminal; nothing elsewhere, and nothing when quiet.
fn bar(quiet: bool, length: Option<u64>, template: &str) -> Option<ProgressBar> {
    (!quiet && std::io::stderr().is_terminal()).then(|| {
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
        bar
    })
}

/// Shows the progress of pairs: how many cases are open is known, how many pairs they need is not.
pub struct PairProgress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl PairProgress {
    /// A line that changes on a terminal, lines elsewhere, nothing when quiet.
    pub fn new(quiet: bool) -> Self {
        Self { bar: bar(quiet, None, "{spinner} {pos} launches in {elapsed} {wide_msg}"), quiet }
    }

    /// Shows one event.
    pub fn listen(&self, event: &pairs::Event<'_>) {
        match event {
            pairs::Event::Starting { case, side, pair, open } => {
                if let Some(bar) = &self.bar {
                    let which = pair.map_or_else(|| "warm-up".to_owned(), |pair| format!("pair {}", pair + 1));
                    bar.set_message(format!("{open} open · {} {side}, {which}", case.id));
                }
            }
            pairs::Event::Finished { launch, side } => {
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
                if self.bar.is_none() || launch.outcome.kind != OutcomeKind::Measured {
                    self.say(&format!("{side}: {}", describe(launch)));
                }
            }
            pairs::Event::Dropped { case, why } => {
                self.say(&format!("{}: a pair does not count: {why}", case.id));
            }
            pairs::Event::GivenUp { case, failure } => {
                self.say(&format!("{}: no more pairs, it failed repeatedly in the {} arm", case.id, failure.side));
            }
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.println(line),
            None => note(line),
        }
    }

    /// Clears the line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(launch: &Launch) -> String {
    let what = match (&launch.outcome.reason, launch.outcome.kind) {
        (_, OutcomeKind::Measured) => latency(launch).map_or_else(|| "measured".to_owned(), format::duration),
        (Some(reason), kind) => format!("{kind}: {reason}"),
        (None, kind) => kind.to_string(),
    };
    format::line(&format!("{} (round {}): {what}", launch.case, launch.index + 1))
}

fn latency(launch: &Launch) -> Option<f64> {
    let sampled =
        launch.samples.iter().find(|samples| samples.metric.name == Metric::LATENCY && !samples.values.is_empty());
    sampled
        .map(|samples| median(&samples.values))
        .or_else(|| launch.values.iter().find(|value| value.metric.name == Metric::LATENCY).map(|value| value.value))
}
