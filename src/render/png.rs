//! The plots as PNG, twice as fine as their natural size. Must not know what is on them: `plot` does.

use plotters::backend::BitMapBackend;

use crate::render::plot::{self, Scene, Target};
use crate::render::{Artifact, RenderError, Renderer, Style};
use crate::report::{Report, RunView};

/// Bytes of a pixel: red, green, blue.
const PIXEL: usize = 3;

/// The renderer.
#[derive(Debug)]
pub struct Png;

impl Renderer for Png {
    fn name(&self) -> &'static str {
        "png"
    }

    fn describe(&self) -> &'static str {
        "the same plots as svg, as pixels"
    }

    fn report(&self, report: &Report, _style: Style) -> Result<Vec<Artifact>, RenderError> {
        let pictures = plot::pictures(report);
        pictures
            .iter()
            .map(|picture| {
                let name = format!("{}.png", picture.stem);
                let bytes = draw(&picture.scene()).map_err(|what| RenderError::Draw { context: name.clone(), what })?;
                Ok(Artifact { name, bytes })
            })
            .collect()
    }

    fn run(&self, _view: &RunView, _style: Style) -> Result<Option<Vec<Artifact>>, RenderError> {
        Ok(None)
    }
}

/// The bytes of a picture.
pub fn draw(scene: &Scene) -> Result<Vec<u8>, String> {
    let scaled = |length: u32| (f64::from(length) * Target::PNG.scale) as u32;
    let (width, height) = (scaled(scene.width), scaled(scene.height));
    let mut pixels = vec![255; width as usize * height as usize * PIXEL];
    scene.paint(&mut BitMapBackend::with_buffer(&mut pixels, (width, height)), Target::PNG)?;
    encode(&pixels, width, height).map_err(|error| error.to_string())
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Large areas of one colour: filters only blur what repeats.
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
