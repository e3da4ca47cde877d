//! Shares with their intervals, and tables of Markdown.
//!
//! Must not know what is counted.

use std::fmt;

/// Hits among trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Hits.
    pub hits: usize,
    /// Trials.
    pub of: usize,
}

impl Share {
    /// Counts one trial.
    pub fn count(&mut self, hit: bool) {
        self.hits += usize::from(hit);
        self.of += 1;
    }

    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        Self { hits: self.hits + other.hits, of: self.of + other.of }
    }

    /// The share; zero of nothing.
    pub fn value(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.hits as f64 / self.of as f64 }
    }

    /// Wilson's 95 % score interval (Wilson 1927).
    pub fn interval(self) -> (f64, f64) {
        const Z: f64 = 1.959_964;
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.of as f64, self.value());
        let center = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((center - half).max(0.0), (center + half).min(1.0))
    }
}

/// `94.0 % (92.5 to 95.2)`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.interval();
        write!(f, "{} % ({} to {})", percent(self.value()), percent(low), percent(high))
    }
}

/// A share in percent, with two digits where it is small.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent > 0.0 && percent < 10.0 { format!("{percent:.2}") } else { format!("{percent:.1}") }
}

/// A table of Markdown.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = line(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    out += &line(&vec!["---".to_owned(); head.len()]);
    for row in rows {
        out += &line(row);
    }
    out
}
