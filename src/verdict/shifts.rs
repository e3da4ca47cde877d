//! Shifts of a series of sessions that lasted, and the level that counts until a person accepts another
//! (STATISTICS.md section 7).
//!
//! One pass over the sessions, the oldest first, as they would have been seen while they came in. Values are on the
//! badness scale, so that positive shifts are worse. Must not know cases, runs, or what day it is.

use std::ops::Range;

use crate::stats::predictive::{Prediction, Spread};
use crate::stats::quantile::median;
use crate::stats::student;
use crate::verdict::policy::{ALPHA_REPORT, ALPHA_SCREEN, HISTORY_SESSIONS, K_GATE, KAPPA};

/// Sessions that must agree before a shift is believed, or its end.
pub const AGREE: usize = 3;
/// Sessions from the beginning of a level against which creep is seen.
const ANCHOR: usize = 10;
/// Sessions after which an improvement needs nobody's consent to become the level.
const IMPROVED: usize = 5;
/// One-sided level of the bound that each of the agreeing sessions must leave.
const ALPHA_SHIFT: f64 = 0.025;
/// The least shift that counts, as a fraction.
const LEAST: f64 = 0.01;

/// What is known of a series beside its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// The spread between sessions expected before looking, log units.
    pub prior: f64,
    /// The smallest spread believed, log units.
    pub floor: f64,
}

/// What a person accepted, in the terms of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Consent {
    /// The first session that is not older than it; the number of sessions where there is none.
    pub from: usize,
    /// The largest shift accepted, on the badness scale; negative for an improvement.
    pub shift: f64,
}

/// What became of a shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It lasts, and nobody has accepted it.
    Pending,
    /// The next three sessions were back within the bound.
    WentAway,
    /// Later sessions came back within the bound, the first of them this one.
    Ended(usize),
    /// It is the level now: by the consent at this place, or without one where it is an improvement that lasts.
    Accepted(Option<usize>),
}

/// A shift away from a level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The first of its sessions.
    pub first: usize,
    /// The last session of the level before it.
    pub before: usize,
    /// Its size against that level, on the badness scale: the median of its sessions.
    pub size: f64,
    /// Half-width of the 95 % interval of the size.
    pub half_width: f64,
    /// What became of it.
    pub state: State,
}

/// The level of now against the first sessions after the last acceptance: small changes that add up.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// The sessions of the anchor, by their places among the level's.
    pub anchor: Range<usize>,
    /// How far the last sessions lie from it, on the badness scale.
    pub size: f64,
    /// Half-width of its 95 % interval.
    pub half_width: f64,
    /// It is moderate at the gate's level: a pending shift that came in small steps.
    pub creeping: bool,
}

/// All that is said of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Shifts in the order they began.
    pub shifts: Vec<Shift>,
    /// The sessions at the accepted level, in order.
    pub accepted: Vec<usize>,
    /// The sessions at the level of the last pending shift; empty where none is pending.
    pub pending: Vec<usize>,
    /// Where the level is long enough to have an anchor.
    pub drift: Option<Drift>,
}

impl Trace {
    /// The shifts that wait for somebody.
    pub fn open(&self) -> impl Iterator<Item = &Shift> {
        self.shifts.iter().filter(|shift| shift.state == State::Pending)
    }
}

/// Limits of creep, from the thresholds of the metric and the number of series looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The moderate threshold on the log scale.
    pub moderate: f64,
    /// The gate's one-sided level for one series.
    pub alpha: f64,
}

/// A shift that is not over: the level it left, and its sessions.
struct Open {
    place: usize,
    level: Prediction,
    side: f64,
    members: Vec<usize>,
}

/// Follows a series of finite values. Consents must be in the order they were given.
#[must_use]
pub fn trace(values: &[f64], noise: Noise, consents: &[Consent], limits: Limits) -> Trace {
    let mut follower =
        Follower { values, noise, shifts: Vec::new(), level: Vec::new(), open: Vec::new(), standing: Vec::new() };
    let mut waiting = (0..consents.len()).peekable();
    for session in 0..values.len() {
        while let Some(consent) = waiting.next_if(|at| consents[*at].from <= session) {
            follower.consent(consent, consents[consent].shift);
        }
        follower.session(session);
    }
    for consent in waiting {
        follower.consent(consent, consents[consent].shift);
    }
    follower.finish(limits)
}

/// Whether a value is no worse than what the sessions of a pending level make expected: such a change was there before.
#[must_use]
pub fn is_at(level: &[f64], value: f64, noise: Noise, minor: f64) -> bool {
    let prediction = predict(level, noise);
    let shift = value - prediction.center;
    shift <= prediction.half_width(ALPHA_SCREEN).max(minor / 2.0)
}

fn predict(level: &[f64], noise: Noise) -> Prediction {
    let recent = &level[level.len().saturating_sub(HISTORY_SESSIONS as usize)..];
    Prediction::new(recent, Spread::of(recent).gate(), noise.prior, noise.floor)
}

struct Follower<'a> {
    values: &'a [f64],
    noise: Noise,
    shifts: Vec<Shift>,
    level: Vec<usize>,
    /// Shifts upon shifts, the oldest first.
    open: Vec<Open>,
    /// Consents given before what they accept was seen.
    standing: Vec<(usize, f64)>,
}

impl Follower<'_> {
    fn of(&self, places: &[usize]) -> Vec<f64> {
        places.iter().map(|place| self.values[*place]).collect()
    }

    /// The sessions of the level that counts for the next one.
    fn top(&mut self) -> &mut Vec<usize> {
        self.open.last_mut().map_or(&mut self.level, |open| &mut open.members)
    }

    fn session(&mut self, session: usize) {
        self.top().push(session);
        self.close(session);
        self.begin();
        self.improve();
    }

    /// Ends the shifts whose level the last sessions came back to.
    fn close(&mut self, session: usize) {
        let Some(members) = self.open.last().map(|open| &open.members) else { return };
        if members.len() < AGREE {
            return;
        }
        let back: Vec<usize> = members[members.len() - AGREE..].to_vec();
        let inside = |open: &Open| {
            let bound = open.level.half_width(ALPHA_SHIFT);
            back.iter().all(|place| open.side * (self.values[*place] - open.level.center) <= bound)
        };
        // Coming back to an older level ends every shift since.
        let Some(from) = self.open.iter().position(inside) else { return };
        for ended in self.open.drain(from..) {
            let shift = &mut self.shifts[ended.place];
            let at_once = session == shift.first + 2 * AGREE - 1;
            shift.state = if at_once { State::WentAway } else { State::Ended(back[0]) };
        }
        self.top().extend(back);
    }

    /// Begins a shift where the last sessions all left the level on one side.
    fn begin(&mut self) {
        let top = self.top();
        if top.len() < K_GATE + AGREE {
            return;
        }
        let recent = top.split_off(top.len() - AGREE);
        let before = top.clone();
        let (level, values) = (predict(&self.of(&before), self.noise), self.of(&recent));
        let bound = level.half_width(ALPHA_SHIFT);
        let moved = median(&values) - level.center;
        let side = moved.signum();
        let beyond = values.iter().all(|value| side * (value - level.center) > bound);
        if !beyond || moved.abs() < LEAST.ln_1p() {
            self.top().extend(recent);
            return;
        }
        self.shifts.push(Shift {
            first: recent[0],
            before: before[before.len() - 1],
            size: moved,
            half_width: 0.0,
            state: State::Pending,
        });
        self.open.push(Open { place: self.shifts.len() - 1, level, side, members: recent });
        let near = side * moved - self.half_width(self.open.len() - 1);
        if let Some(at) = self.standing.iter().position(|(_, accepted)| side * accepted >= near.max(0.0)) {
            let (consent, _) = self.standing.remove(at);
            self.accept(Some(consent));
        }
    }

    /// A person accepts: the shifts that are there, if they are no larger than what is accepted; else those to come.
    fn consent(&mut self, consent: usize, accepted: f64) {
        let Some(last) = self.open.len().checked_sub(1) else {
            self.standing.push((consent, accepted));
            return;
        };
        let (base, top) = (self.open[0].level.center, median(&self.of(&self.open[last].members)));
        let moved = top - base;
        // What the data allow it to be, because the acceptance was written from them.
        if moved * accepted > 0.0 && moved.abs() - self.half_width(last) <= accepted.abs() {
            self.accept(Some(consent));
        } else {
            self.standing.push((consent, accepted));
        }
    }

    /// An improvement that lasts becomes the level: coming back from it must not go unseen.
    fn improve(&mut self) {
        if let [only] = self.open.as_slice()
            && only.side < 0.0
            && only.members.len() >= IMPROVED
        {
            self.accept(None);
        }
    }

    /// The level of the last open shift becomes the accepted one.
    fn accept(&mut self, consent: Option<usize>) {
        for at in 0..self.open.len() {
            self.measure(at);
            self.shifts[self.open[at].place].state = State::Accepted(consent);
        }
        if let Some(last) = self.open.pop() {
            self.level = last.members;
        }
        self.open.clear();
    }

    /// Half-width of the 95 % interval of an open shift: both medians err, each by `√(π/2)` of a mean's error (the
    /// normal distribution's asymptotic value).
    fn half_width(&self, at: usize) -> f64 {
        let Open { level, members, .. } = &self.open[at];
        let share = std::f64::consts::FRAC_PI_2 * (1.0 / level.sessions as f64 + 1.0 / members.len() as f64);
        student::upper_quantile(level.degrees(), ALPHA_REPORT) * level.scale * share.sqrt()
    }

    /// Takes the size of an open shift from all of its sessions.
    fn measure(&mut self, at: usize) {
        let (size, half_width) =
            (median(&self.of(&self.open[at].members)) - self.open[at].level.center, self.half_width(at));
        let shift = &mut self.shifts[self.open[at].place];
        (shift.size, shift.half_width) = (size, half_width);
    }

    fn finish(mut self, limits: Limits) -> Trace {
        for at in 0..self.open.len() {
            self.measure(at);
        }
        let drift = if self.open.is_empty() { self.drift(limits) } else { None };
        let pending = self.open.pop().map(|open| open.members).unwrap_or_default();
        Trace { shifts: self.shifts, accepted: self.level, pending, drift }
    }

    fn drift(&self, limits: Limits) -> Option<Drift> {
        if self.level.len() < ANCHOR + AGREE {
            return None;
        }
        let values = self.of(&self.level);
        let anchor = predict(&values[..ANCHOR], self.noise);
        let size = median(&values[values.len() - AGREE..]) - anchor.center;
        let near = size - anchor.half_width(limits.alpha);
        Some(Drift {
            anchor: 0..ANCHOR,
            size,
            half_width: anchor.half_width(ALPHA_REPORT),
            creeping: size >= limits.moderate && near >= KAPPA * limits.moderate,
        })
    }
}

#[cfg(test)]
mod tests;
