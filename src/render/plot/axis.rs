//! Horizontal axes: from values to pixels, and where the ticks stand. Must not know what the values are.

/// A horizontal axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Values at the ends.
    pub range: (f64, f64),
    /// Pixels at the ends.
    pub pixels: (f64, f64),
    /// `None` is linear; else values up to about this size are spread linearly and larger ones logarithmically.
    pub linear_up_to: Option<f64>,
}

impl Axis {
    /// Where a value is, pixels; values beyond an end are placed at it.
    pub fn at(&self, value: f64) -> f64 {
        let (low, high) = (self.bend(self.range.0), self.bend(self.range.1));
        let share = (self.bend(value) - low) / (high - low);
        let (left, right) = self.pixels;
        left + share.clamp(0.0, 1.0) * (right - left)
    }

    /// Whether the value lies within the ends.
    pub fn holds(&self, value: f64) -> bool {
        (self.range.0..=self.range.1).contains(&value)
    }

    /// Symmetric and smooth: like x for small, like ln for large values, and zero stays zero.
    fn bend(&self, value: f64) -> f64 {
        match self.linear_up_to {
            None => value,
            Some(width) => (value / width).asinh(),
        }
    }

    /// Round values for ticks, as many as have `room` pixels each, in rising order. `base` is 1, or the size of the
    /// shown unit.
    pub fn ticks(&self, base: f64, room: f64) -> Vec<f64> {
        if self.linear_up_to.is_none() {
            return self.even_ticks(base, room);
        }
        let mut ticks: Vec<f64> = Vec::new();
        // The rounder a value, the earlier it gets its place.
        for mantissa in [0.0, 1.0, 3.0, 5.0, 2.0] {
            for exponent in [-1, 0, -2, 1, 2] {
                for sign in [1.0, -1.0] {
                    let tick = sign * mantissa * 10_f64.powi(exponent);
                    let free = ticks.iter().all(|other| (self.at(*other) - self.at(tick)).abs() >= room);
                    if self.holds(tick) && free {
                        ticks.push(tick);
                    }
                }
            }
        }
        ticks.sort_by(f64::total_cmp);
        ticks
    }

    fn even_ticks(&self, base: f64, room: f64) -> Vec<f64> {
        let (low, high) = (self.range.0 / base, self.range.1 / base);
        let most = ((self.pixels.1 - self.pixels.0) / room).max(2.0);
        let least = (high - low) / most;
        let power = 10_f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|step| step * power)
            .find(|step| *step >= least * (1.0 - 1e-9))
            .unwrap_or(10.0 * power);
        let (from, to) = ((low / step).ceil(), (high / step).floor());
        if !(from.is_finite() && to.is_finite()) || to - from > most + 1.0 {
            return Vec::new();
        }
        (0..=(to - from) as usize).map(|index| (from + index as f64) * step * base).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: f64 = 60.0;

    fn axis(range: (f64, f64), linear_up_to: Option<f64>) -> Axis {
        Axis { range, pixels: (100.0, 500.0), linear_up_to }
    }

    #[test]
    fn an_outlier_leaves_room_for_small_changes() {
        let wide = axis((-0.3, 3.5), Some(0.05));
        let small = wide.at(0.03) - wide.at(0.0);
        assert!(small > 20.0, "3 % is only {small} pixels beside 350 %");
        assert_eq!(wide.at(9.0), 500.0);
    }

    #[test]
    fn ticks_are_round_and_apart() {
        for axis in [axis((-0.07, 0.36), None), axis((-0.5, 3.5), Some(0.05)), axis((0.1201, 0.1603), None)] {
            let ticks = axis.ticks(1.0, ROOM);
            assert!(ticks.len() >= 3, "{ticks:?}");
            assert!(ticks.windows(2).all(|pair| axis.at(pair[1]) - axis.at(pair[0]) >= ROOM - 1e-6));
        }
        assert!(axis((-0.5, 3.5), Some(0.05)).ticks(1.0, ROOM).contains(&0.0));
        assert!(axis((1.0, 1.0), None).ticks(1.0, ROOM).len() <= 1);
    }
}
