//! The embedded font: registering it with plotters and measuring text.

use std::sync::LazyLock;

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

use crate::render::text;

/// The family as SVG viewers read it: those without `DejaVu` take Verdana, whose letters are as wide, or their own.
pub const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// Ascent and descent of the font in ems: the bitmap backend takes their sum for the size.
pub const HEIGHT: f64 = (1901.0 + 483.0) / 2048.0;

/// Size for measuring: widths come back as whole pixels, so measure large and scale down.
const MEASURE: f64 = 1000.0;

static REGISTERED: LazyLock<bool> = LazyLock::new(|| {
    let normal = register_font(FAMILY, FontStyle::Normal, include_bytes!("../font/DejaVuSans-subset.ttf"));
    let bold = register_font(FAMILY, FontStyle::Bold, include_bytes!("../font/DejaVuSans-Bold-subset.ttf"));
    normal.is_ok() && bold.is_ok()
});

/// The font at plotters' size (which differs from the em by a factor that depends on the backend).
pub fn desc(size: f64, bold: bool) -> FontDesc<'static> {
    assert!(*REGISTERED, "the embedded fonts are TrueType files that plotters reads");
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    FontDesc::new(FontFamily::Name(FAMILY), size, style)
}

/// Width of a text of `em` pixels, in pixels.
pub fn width(line: &str, em: f64, bold: bool) -> f64 {
    let ((left, _), (right, _)) = desc(MEASURE * HEIGHT, bold).layout_box(line).unwrap_or_default();
    f64::from(right - left) * em / MEASURE
}

/// Cleans a text and cuts out its middle until it is at most `room` pixels wide.
pub fn fit(line: &str, em: f64, bold: bool, room: f64) -> String {
    text::shorten_by(&text::clean(line), |candidate| width(candidate, em, bold) <= room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_is_there_and_knows_its_widths() {
        assert!(width("mmmm", 12.0, false) > 2.0 * width("iiii", 12.0, false));
        assert!(width("mmmm", 12.0, true) > width("mmmm", 12.0, false));
        assert!(width(&fit("benchmark/axis=value@cpu", 12.0, false, 90.0), 12.0, false) <= 90.0);
    }
}
