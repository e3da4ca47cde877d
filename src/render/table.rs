//! Aligned columns for terminals: chooses what fits a width, never wraps a row. Must not know what the cells mean.

use anstyle::Style;

use crate::render::text;

/// Space between two columns.
const GAP: usize = 2;
/// A label column is worth having beside the numbers from this many columns on (or when every label fits).
const USEFUL_LABEL: usize = 60;

/// A cell or a piece of a line.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// What it says, cleaned.
    pub text: String,
    /// How it looks where colour is on.
    pub style: Style,
}

impl Cell {
    /// In the terminal's own colour.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new())
    }

    /// In a style.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }

    /// The bytes for a terminal; no escapes without colour.
    fn paint(&self, text: &str, colour: bool) -> String {
        if !colour || self.style == Style::new() || text.trim().is_empty() {
            return text.to_owned();
        }
        format!("{}{text}{}", self.style.render(), self.style.render_reset())
    }

    /// Painted and filled up to a width; the fill has no colour, so that it can be trimmed at the end of a line.
    fn fitted(&self, text: &str, columns: usize, right: bool, colour: bool) -> String {
        let fill = " ".repeat(columns.saturating_sub(text::width(text)));
        let painted = self.paint(text, colour);
        if right { fill + &painted } else { painted + &fill }
    }
}

/// A column of numbers or words.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Aligned to the right.
    pub right: bool,
    /// May be left out where there is no room.
    pub optional: bool,
}

impl Column {
    /// A column with a heading, aligned to the `right` or the left; `optional`: left out where there is no room.
    #[must_use]
    pub const fn new(title: &'static str, right: bool, optional: bool) -> Self {
        Self { title, right, optional }
    }
}

/// One row: a label and its cells, and what is said beneath.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The long name that rows share; shortened in the middle where it must be.
    pub label: String,
    /// One for each column; empty for rows that have words only.
    pub cells: Vec<Cell>,
    /// A sentence beneath, wrapped.
    pub below: Option<Cell>,
}

/// Rows under a heading.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// The heading; none for a table of one section.
    pub heading: Option<Cell>,
    /// The rows.
    pub rows: Vec<Row>,
    /// Said after them: how many were left out.
    pub closing: Option<String>,
}

/// Columns and sections.
#[derive(Debug, Clone)]
pub struct Table {
    /// The columns after the label.
    pub columns: Vec<Column>,
    /// Heading of the label column.
    pub label: &'static str,
    /// The sections.
    pub sections: Vec<Section>,
}

/// Which columns are shown how wide.
struct Layout {
    /// Index and width of each column that is shown.
    shown: Vec<(usize, usize)>,
    /// Width of the label column; `None` when the label has a line of its own.
    label: Option<usize>,
    width: usize,
    colour: bool,
}

impl Table {
    /// The lines, each at most `width` columns wide.
    #[must_use]
    pub fn lines(&self, width: usize, colour: bool) -> Vec<String> {
        let layout = self.layout(width, colour);
        let mut lines = Vec::new();
        if self.rows().any(|row| !row.cells.is_empty()) {
            lines.push(self.titles(&layout));
        }
        for section in &self.sections {
            if let Some(heading) = &section.heading {
                if !lines.is_empty() {
                    lines.push(String::new());
                }
                lines.push(heading.paint(&text::shorten(&heading.text, width), colour));
            }
            self.section(section, &layout, &mut lines);
        }
        lines
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }

    /// Everything in one line where the labels fit well enough; else labels stand above their rows; else optional
    /// columns go, the first first.
    fn layout(&self, width: usize, colour: bool) -> Layout {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = self.rows().filter_map(|row| row.cells.get(index));
                let widest = cells.map(|cell| text::width(&cell.text)).max().unwrap_or(0);
                // A column that says nothing anywhere is not shown.
                if widest == 0 { 0 } else { widest.max(text::width(self.columns[index].title)) }
            })
            .collect();
        let mut shown: Vec<(usize, usize)> = widths.into_iter().enumerate().filter(|(_, width)| *width > 0).collect();
        let needed = |shown: &[(usize, usize)]| shown.iter().map(|(_, width)| width + GAP).sum::<usize>();
        let labels = self.rows().filter(|row| !row.cells.is_empty()).map(|row| text::width(&row.label));
        let longest = labels.max().unwrap_or(0).max(text::width(self.label));
        let beside = (GAP + needed(&shown) + longest.min(USEFUL_LABEL) <= width)
            .then(|| longest.min(width.saturating_sub(GAP + needed(&shown))));
        while beside.is_none() && GAP + needed(&shown) > width {
            match shown.iter().position(|(index, _)| self.columns[*index].optional) {
                Some(position) => drop(shown.remove(position)),
                None => break,
            }
        }
        Layout { shown, label: beside, width, colour }
    }

    fn titles(&self, layout: &Layout) -> String {
        let style = Style::new().dimmed();
        let cells: Vec<Cell> = self.columns.iter().map(|column| Cell::styled(column.title, style)).collect();
        let label = Cell::styled(self.label, style);
        self.line(&label, &cells, layout)
    }

    fn section(&self, section: &Section, layout: &Layout, lines: &mut Vec<String>) {
        let mut last: Option<&str> = None;
        for row in &section.rows {
            let label = Cell::plain(row.label.as_str());
            let own_line = layout.label.is_none() || row.cells.is_empty();
            if own_line && last != Some(row.label.as_str()) {
                lines.push(format!("  {}", text::shorten(&row.label, layout.width.saturating_sub(2))));
            }
            last = Some(row.label.as_str());
            if !row.cells.is_empty() {
                lines.push(self.line(&label, &row.cells, layout));
            }
            if let Some(below) = &row.below {
                let wrapped = text::wrap(&below.text, layout.width.saturating_sub(6));
                lines.extend(wrapped.iter().map(|line| format!("      {}", below.paint(line, layout.colour))));
            }
        }
        if let Some(closing) = &section.closing {
            lines.extend(text::wrap(closing, layout.width.saturating_sub(2)).iter().map(|line| format!("  {line}")));
        }
    }

    /// One row; without a label column it is indented instead.
    fn line(&self, label: &Cell, cells: &[Cell], layout: &Layout) -> String {
        let mut line = " ".repeat(GAP);
        if let Some(room) = layout.label {
            let short = text::shorten(&label.text, room);
            line.push_str(&label.fitted(&short, room, false, layout.colour));
        }
        for (position, &(index, width)) in layout.shown.iter().enumerate() {
            let Some(cell) = cells.get(index) else { continue };
            if position > 0 || layout.label.is_some() {
                line.push_str(&" ".repeat(GAP));
            }
            line.push_str(&cell.fitted(&cell.text, width, self.columns[index].right, layout.colour));
        }
        line.trim_end().to_owned()
    }
}
