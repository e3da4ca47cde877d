//! The plots as SVG. Must not know what is on them: `plot` does.

use plotters::backend::SVGBackend;

use crate::render::plot::{self, Scene, Target};
use crate::render::{Artifact, RenderError, Renderer, Style};
use crate::report::{Report, RunView};

/// The renderer.
#[derive(Debug)]
pub struct Svg;

impl Renderer for Svg {
    fn name(&self) -> &'static str {
        "svg"
    }

    fn describe(&self) -> &'static str {
        "plots: changes with their intervals, and the launches of each flagged row"
    }

    fn report(&self, report: &Report, _style: Style) -> Result<Vec<Artifact>, RenderError> {
        let pictures = plot::pictures(report);
        pictures
            .iter()
            .map(|picture| {
                let name = format!("{}.svg", picture.stem);
                let text = draw(&picture.scene()).map_err(|what| RenderError::Draw { context: name.clone(), what })?;
                Ok(Artifact { name, bytes: text.into_bytes() })
            })
            .collect()
    }

    fn run(&self, _view: &RunView, _style: Style) -> Result<Option<Vec<Artifact>>, RenderError> {
        Ok(None)
    }
}

/// The bytes of a picture.
pub fn draw(scene: &Scene) -> Result<String, String> {
    let scaled = |length: u32| (f64::from(length) * Target::SVG.scale) as u32;
    let size = (scaled(scene.width), scaled(scene.height));
    let mut text = String::new();
    scene.paint(&mut SVGBackend::with_string(&mut text, size), Target::SVG)?;
    // The view box keeps the fine coordinates; width and height say how large it is meant.
    let fine = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    let natural = format!("width=\"{}\" height=\"{}\"", scene.width, scene.height);
    Ok(text.replacen(&fine, &natural, 1))
}
