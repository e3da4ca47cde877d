//! PORT: turns the view model into bytes, and the table of formats. Decides nothing.

pub mod comment;
pub mod format;
pub mod json;
pub mod trend;

mod group;
mod markdown;
mod plot;
mod png;
mod run;
mod svg;
pub mod table;
mod target;
mod terminal;
pub mod text;

pub use markdown::{code, prose};
use thiserror::Error;

use crate::report::{Report, RunView};

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether to use colour (terminal only).
    pub colour: bool,
    /// Columns available (terminal only).
    pub width: usize,
}

/// A file to write beside the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// File name, with `/` between it and its folder if it has one: `report.md`, `plots/forest.svg`. Made of
    /// letters, digits, `.`, `-` and `_`, so that it is safe to join to an output folder.
    pub name: String,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Why nothing could be drawn.
#[derive(Debug, Error)]
pub enum RenderError {
    /// The drawing library failed.
    #[error("{context}: {what}")]
    Draw {
        /// Which picture.
        context: String,
        /// The library's words.
        what: String,
    },
}

/// A format.
pub trait Renderer: Sync {
    /// Name for `--format` and file lists.
    fn name(&self) -> &'static str;

    /// One line.
    fn describe(&self) -> &'static str;

    /// The files that show a report. The first is the main one.
    ///
    /// # Errors
    /// When drawing fails.
    fn report(&self, report: &Report, style: Style) -> Result<Vec<Artifact>, RenderError>;

    /// The files that show a single run; `None` where the format has no such view.
    ///
    /// # Errors
    /// When drawing fails.
    fn run(&self, view: &RunView, style: Style) -> Result<Option<Vec<Artifact>>, RenderError>;
}

/// Every format.
pub static RENDERERS: &[&dyn Renderer] = &[&terminal::Terminal, &markdown::Markdown, &json::Json, &svg::Svg, &png::Png];

/// The format of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Renderer> {
    RENDERERS.iter().copied().find(|renderer| renderer.name() == name)
}
