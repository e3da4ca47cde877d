//! A picture as a list of shapes, and the one function that paints it on any plotters backend.
//!
//! Coordinates are pixels of the picture at its natural size, from the upper left. Must not know what is drawn.

use plotters::backend::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{RGBAColor, ShapeStyle, TextStyle};

use crate::render::plot::font;

/// Red, green, blue, and how opaque from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ink(pub u8, pub u8, pub u8, pub f64);

/// Which side of a text is at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Its start.
    Left,
    /// Its middle.
    Middle,
    /// Its end.
    Right,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    /// Size in pixels.
    pub em: f64,
    /// Heavier.
    pub bold: bool,
    /// Colour.
    pub ink: Ink,
    /// Which side is at the position.
    pub anchor: Anchor,
}

#[derive(Debug, Clone)]
enum Shape {
    Rect((f64, f64), (f64, f64), Ink),
    Line(Vec<(f64, f64)>, Ink, f64),
    Fill(Vec<(f64, f64)>, Ink),
    Disc((f64, f64), f64, Ink),
    Text((f64, f64), String, Type),
}

/// A picture.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    shapes: Vec<Shape>,
}

/// What differs between the backends.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Pixels of the backend for one of the picture.
    pub scale: f64,
    /// Plotters' font size for an em of one pixel.
    pub em_to_size: f64,
    /// Distance from the upper anchor of a text to its baseline, in ems.
    pub ascent: f64,
}

impl Target {
    /// SVG coordinates are whole numbers in plotters, so the picture is drawn four times as large and the viewer
    /// told to shrink it. The factors are those in plotters-svg's `draw_text`.
    pub const SVG: Self = Self { scale: 4.0, em_to_size: 1.24, ascent: 0.76 };
    /// Twice as large, sharp on dense screens. plotters takes ascent plus descent for the size and puts the baseline
    /// half a size below the upper anchor.
    pub const PNG: Self = Self { scale: 2.0, em_to_size: font::HEIGHT, ascent: font::HEIGHT / 2.0 };
}

impl Scene {
    /// An opaque page.
    pub fn new(width: f64, height: f64, page: Ink) -> Self {
        let mut scene = Self { width: width as u32, height: height.ceil() as u32, shapes: Vec::new() };
        scene.rect(0.0, 0.0, width, height.ceil(), page);
        scene
    }

    /// A filled rectangle from the upper left to the lower right.
    pub fn rect(&mut self, x0: f64, y0: f64, x1: f64, y1: f64, ink: Ink) {
        self.shapes.push(Shape::Rect((x0, y0), (x1, y1), ink));
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64) {
        self.shapes.push(Shape::Line(vec![from, to], ink, width));
    }

    /// A vertical line of dashes.
    pub fn dashes(&mut self, x: f64, y0: f64, y1: f64, ink: Ink, width: f64) {
        const DASH: f64 = 5.0;
        let mut y = y0;
        while y < y1 {
            self.line((x, y), (x, (y + DASH).min(y1)), ink, width);
            y += DASH * 1.8;
        }
    }

    /// A filled polygon.
    pub fn fill(&mut self, points: Vec<(f64, f64)>, ink: Ink) {
        self.shapes.push(Shape::Fill(points, ink));
    }

    /// A filled circle.
    pub fn disc(&mut self, x: f64, y: f64, radius: f64, ink: Ink) {
        self.shapes.push(Shape::Disc((x, y), radius, ink));
    }

    /// One line of text with its baseline at `y`. Data must have been cleaned (`font::fit`).
    pub fn text(&mut self, x: f64, y: f64, text: impl Into<String>, font: Type) {
        self.shapes.push(Shape::Text((x, y), text.into(), font));
    }

    /// Paints on a backend of `target.scale` times the size.
    ///
    /// # Errors
    /// In the backend's words.
    pub fn paint<B: DrawingBackend>(&self, backend: &mut B, target: Target) -> Result<(), String> {
        for shape in &self.shapes {
            paint(shape, backend, target)?;
        }
        backend.present().map_err(|error| error.to_string())
    }
}

fn paint<B: DrawingBackend>(shape: &Shape, backend: &mut B, target: Target) -> Result<(), String> {
    let whole = |length: f64| (length * target.scale).round() as i32;
    let point = |&(x, y): &(f64, f64)| (whole(x), whole(y));
    let style = |ink: Ink, width: f64| ShapeStyle {
        color: RGBAColor(ink.0, ink.1, ink.2, ink.3),
        filled: true,
        stroke_width: whole(width).max(1) as u32,
    };
    let painted = match shape {
        Shape::Rect(from, to, ink) => backend.draw_rect(point(from), point(to), &style(*ink, 0.0), true),
        Shape::Line(points, ink, width) => backend.draw_path(points.iter().map(point), &style(*ink, *width)),
        Shape::Fill(points, ink) => backend.fill_polygon(points.iter().map(point), &style(*ink, 0.0)),
        Shape::Disc(centre, radius, ink) => {
            backend.draw_circle(point(centre), whole(*radius).max(1) as u32, &style(*ink, 0.0), true)
        }
        Shape::Text((x, y), line, set) => {
            let across = match set.anchor {
                Anchor::Left => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::Right => HPos::Right,
            };
            let size = set.em * target.scale * target.em_to_size;
            let colour = RGBAColor(set.ink.0, set.ink.1, set.ink.2, set.ink.3);
            let style = TextStyle::from(font::desc(size, set.bold)).color(&colour).pos(Pos::new(across, VPos::Top));
            backend.draw_text(line, &style, (whole(*x), whole(y - set.em * target.ascent)))
        }
    };
    painted.map_err(|error| error.to_string())
}
