//! Makes pairs of launches, base and head next to each other in an order that a coin decides, case after case in
//! rounds, until nobody asks for more.
//!
//! The coin is what the statistics rest on (STATISTICS.md sections 0.4 and 3.1): it is fair, drawn anew for every pair,
//! and fixed by the session's seed, the case and the pair's index, so that a session can be replayed. Must not know what
//! the numbers mean: a referee says which cases want another pair.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::domain::{ArmSide, Case, CaseId, Evidence, Launch, Outcome, OutcomeKind};
use crate::runner::{Ending, KeepError, RunnerError, Settings, launch};
use crate::suite;

/// Failed pairs of a case, one after the other, after which it gets no more: each is repeated once (STATISTICS.md
/// section 3.1).
const GIVE_UP_AFTER: u32 = 2;
/// First launches of a case that may be invalid before it gets no pair: what disturbs so many will disturb the pairs too.
const MOST_INVALID: u32 = 5;

/// The programs that are measured against each other.
#[derive(Debug)]
pub struct Arms<'a> {
    /// What the change is measured against.
    pub base: Settings<'a>,
    /// The change.
    pub head: Settings<'a>,
}

/// One pair, complete.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Launch of the base.
    pub base: &'a Launch,
    /// Launch of the head.
    pub head: &'a Launch,
}

/// Decides how far the session goes, and hears of everything that was measured.
pub trait Referee {
    /// Hears of the first launches of a case, which are not part of any pair: they fill caches and show which metrics
    /// there are.
    fn warmed(&mut self, case: usize, pair: Pair<'_>);
    /// Hears that every case was warmed up; cases that failed in `failed` will get no pair.
    fn begin(&mut self, failed: &BTreeMap<usize, Failure>);
    /// Cases that want another pair.
    fn open(&self) -> Vec<usize>;
    /// The case that is measured against itself beside the others, where one is wanted in this round.
    fn control(&mut self) -> Option<usize>;
    /// Hears of a pair.
    fn take(&mut self, case: usize, pair: Pair<'_>);
    /// Hears of a pair of the base against itself.
    fn take_control(&mut self, case: usize, pair: Pair<'_>);
    /// Hears that a case gets no more pairs because launches of it failed.
    fn failed(&mut self, case: usize, failure: &Failure);
    /// Why a launch that was disturbed from outside must not count, by its evidence alone.
    fn disturbance(&self, evidence: &[Evidence]) -> Option<String>;
    /// Hears of a pair that was made and does not count, because a launch of it was disturbed.
    fn dropped(&mut self, case: usize);
}

/// A case whose launches fail.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Which arm.
    pub side: ArmSide,
    /// How.
    pub outcome: Outcome,
}

/// What happens, as listeners see it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A launch starts.
    Starting {
        /// Its case.
        case: &'a Case,
        /// Its arm.
        side: ArmSide,
        /// Which pair, from 0; absent for the first launches, which do not count.
        pair: Option<u32>,
        /// Cases that are not decided yet.
        open: usize,
    },
    /// A launch ended; it has been kept.
    Finished {
        /// The launch.
        launch: &'a Launch,
        /// Its arm.
        side: ArmSide,
    },
    /// A pair was disturbed from outside and does not count.
    Dropped {
        /// Its case.
        case: &'a Case,
        /// What disturbed it.
        why: &'a str,
    },
    /// A case gets no more pairs.
    GivenUp {
        /// Its case.
        case: &'a Case,
        /// Why.
        failure: &'a Failure,
    },
}

/// What a sitting is told and whom it tells.
pub struct Sitting<'a> {
    /// All cases; those in `escalated` are measured.
    pub cases: &'a [Case],
    /// Places of the cases to measure, most important first.
    pub escalated: &'a [usize],
    /// What coins and orders are drawn from.
    pub seed: u64,
    /// Wall time that the sitting may take.
    pub budget: Option<Duration>,
    /// Is handed every finished launch at once.
    pub keep: &'a mut dyn FnMut(ArmSide, &Launch) -> Result<(), KeepError>,
    /// Hears what happens.
    pub listen: &'a mut dyn FnMut(Event<'_>),
}

impl std::fmt::Debug for Sitting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sitting").field("escalated", &self.escalated).field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Makes pairs until the referee has no open case or the budget is used up.
///
/// # Errors
/// When a worker cannot be started or a launch cannot be kept. A launch that fails is the referee's to judge.
pub fn run<'s>(arms: &'s Arms<'s>, sitting: Sitting<'s>, referee: &mut dyn Referee) -> Result<Ending, RunnerError> {
    let mut session = Session {
        arms,
        start: Instant::now(),
        position: 0,
        made: BTreeMap::new(),
        failures: BTreeMap::new(),
        closed: BTreeMap::new(),
        sitting,
    };
    let Some(()) = session.warm_up(referee)? else {
        return Ok(session.stopped());
    };
    for round in 0_u64.. {
        let mut open: Vec<usize> =
            referee.open().into_iter().filter(|case| !session.closed.contains_key(case)).collect();
        if open.is_empty() {
            return Ok(Ending::Complete);
        }
        suite::shuffle(&mut open, number(session.sitting.seed, &format!("round {round}")));
        let control = referee.control();
        let wanted = open.len();
        for case in open {
            if session.pair(case, false, wanted, referee)?.is_none() {
                return Ok(session.stopped());
            }
        }
        if let Some(case) = control
            && session.pair(case, true, wanted, referee)?.is_none()
        {
            return Ok(session.stopped());
        }
    }
    Ok(Ending::Complete)
}

struct Session<'s> {
    arms: &'s Arms<'s>,
    start: Instant,
    /// Launches made so far.
    position: u32,
    /// Pairs begun of each case; of the control stream under `true`.
    made: BTreeMap<(usize, bool), u32>,
    failures: BTreeMap<usize, u32>,
    closed: BTreeMap<usize, Failure>,
    sitting: Sitting<'s>,
}

impl Session<'_> {
    fn cancelled(&self) -> bool {
        self.arms.head.cancel.load(Ordering::SeqCst)
    }

    fn stopped(&self) -> Ending {
        if self.cancelled() { Ending::Cancelled } else { Ending::OutOfBudget }
    }

    fn may_go_on(&self) -> bool {
        !self.cancelled() && self.sitting.budget.is_none_or(|budget| self.start.elapsed() < budget)
    }

    /// One launch of each arm of every case, in an order drawn by coin like any other; `None` when stopped.
    fn warm_up(&mut self, referee: &mut dyn Referee) -> Result<Option<()>, RunnerError> {
        let mut order = self.sitting.escalated.to_vec();
        suite::shuffle(&mut order, number(self.sitting.seed, "warm-up"));
        for case in order {
            let mut invalid = 0;
            loop {
                let Some((base, head)) = self.both(case, false, None)? else {
                    return Ok(None);
                };
                match failure(&base, &head, false) {
                    None => {
                        self.failures.remove(&case);
                        referee.warmed(case, Pair { base: &base, head: &head });
                        break;
                    }
                    // The machine's doing, not the program's.
                    Some(failure) if failure.outcome.kind == OutcomeKind::Invalid => {
                        invalid += 1;
                        if invalid == MOST_INVALID {
                            self.keep_both(&base, &head)?;
                            self.close(case, failure);
                            break;
                        }
                        self.drop_pair(case, &why(&failure));
                    }
                    Some(failure) => {
                        self.keep_both(&base, &head)?;
                        if self.fails(case, failure) {
                            break;
                        }
                    }
                }
            }
        }
        referee.begin(&self.closed);
        Ok(Some(()))
    }

    /// Keeps first launches, which say why their case got no pair.
    fn keep_both(&mut self, base: &Launch, head: &Launch) -> Result<(), RunnerError> {
        (self.sitting.keep)(ArmSide::Base, base).map_err(RunnerError::Keep)?;
        (self.sitting.keep)(ArmSide::Head, head).map_err(RunnerError::Keep)
    }

    /// One pair of a case, told to the referee; `None` when stopped.
    fn pair(
        &mut self,
        case: usize,
        control: bool,
        open: usize,
        referee: &mut dyn Referee,
    ) -> Result<Option<()>, RunnerError> {
        let count = self.made.entry((case, control)).or_insert(0);
        let index = *count;
        *count += 1;
        let Some((base, head)) = self.both(case, control, Some((index, open)))? else {
            return Ok(None);
        };
        // Blind to the values: by the evidence alone, and always both launches (STATISTICS.md section 8, G5).
        let disturbed = [&base, &head].into_iter().find_map(|launch| referee.disturbance(&launch.evidence));
        let failure = failure(&base, &head, control);
        // An invalid launch was disturbed as well: at other clocks than agreed, or beside others on the device.
        let invalid = || failure.as_ref().filter(|failure| failure.outcome.kind == OutcomeKind::Invalid).map(why);
        if let Some(why) = disturbed.or_else(invalid) {
            self.drop_pair(case, &why);
            if !control {
                referee.dropped(case);
            }
            return Ok(Some(()));
        }
        let pair = Pair { base: &base, head: &head };
        match failure {
            // The control stream only watches the harness; a case that fails fails in its own pairs too.
            Some(_) if control => {}
            Some(failure) => {
                if self.fails(case, failure) {
                    referee.failed(case, &self.closed[&case]);
                }
            }
            None if control => referee.take_control(case, pair),
            None => {
                self.failures.remove(&case);
                referee.take(case, pair);
            }
        }
        Ok(Some(()))
    }

    fn drop_pair(&mut self, case: usize, why: &str) {
        (self.sitting.listen)(Event::Dropped { case: &self.sitting.cases[case], why });
    }

    /// Counts a failure; whether it is one too many.
    fn fails(&mut self, case: usize, failure: Failure) -> bool {
        let count = self.failures.entry(case).or_insert(0);
        *count += 1;
        if *count < GIVE_UP_AFTER {
            return false;
        }
        self.close(case, failure);
        true
    }

    fn close(&mut self, case: usize, failure: Failure) {
        (self.sitting.listen)(Event::GivenUp { case: &self.sitting.cases[case], failure: &failure });
        self.closed.insert(case, failure);
    }

    /// Both launches of a pair, in the order of its coin, each kept as soon as it is made; `None` when stopped.
    fn both(
        &mut self,
        case: usize,
        control: bool,
        pair: Option<(u32, usize)>,
    ) -> Result<Option<(Launch, Launch)>, RunnerError> {
        let definition = &self.sitting.cases[case];
        let index = pair.map_or(0, |(index, _)| index);
        let stream = match (control, pair) {
            (true, _) => "control",
            (false, None) => "warm-up",
            (false, Some(_)) => "pair",
        };
        let head_first = coin(self.sitting.seed, &definition.id, stream, index);
        let sides = if head_first { [ArmSide::Head, ArmSide::Base] } else { [ArmSide::Base, ArmSide::Head] };
        let mut done: [Option<Launch>; 2] = [None, None];
        for side in sides {
            if !self.may_go_on() {
                return Ok(None);
            }
            // In the control stream the base plays both parts, and its launches are numbered one after the other.
            let settings = if side == ArmSide::Head && !control { &self.arms.head } else { &self.arms.base };
            let (number, told) = match (control, side) {
                (true, ArmSide::Head) => (2 * index + 1, ArmSide::Control),
                (true, _) => (2 * index, ArmSide::Control),
                (false, side) => (index, side),
            };
            (self.sitting.listen)(Event::Starting {
                case: definition,
                side: told,
                pair: pair.map(|(index, _)| index),
                open: pair.map_or(self.sitting.escalated.len(), |(_, open)| open),
            });
            // The same order of code for both arms: what the change left alone then lies alike more often.
            let Some(launch) = launch::make(definition, number, self.position, index, settings)? else {
                return Ok(None);
            };
            self.position += 1;
            if pair.is_some() {
                (self.sitting.keep)(told, &launch).map_err(RunnerError::Keep)?;
            }
            (self.sitting.listen)(Event::Finished { launch: &launch, side: told });
            done[usize::from(side == ArmSide::Head)] = Some(launch);
        }
        let [base, head] = done;
        Ok(base.zip(head))
    }
}

fn why(failure: &Failure) -> String {
    failure.outcome.reason.clone().unwrap_or_else(|| failure.outcome.kind.to_string())
}

/// Which arm failed, and how; the base where both did, because then it is not the change that fails. What is invalid comes
/// last: a crash beside a disturbed launch is a crash all the same.
fn failure(base: &Launch, head: &Launch, control: bool) -> Option<Failure> {
    let sides = if control {
        [(ArmSide::Control, head), (ArmSide::Control, base)]
    } else {
        [(ArmSide::Base, base), (ArmSide::Head, head)]
    };
    let failed = |(_, launch): &&(ArmSide, &Launch)| launch.outcome.kind != OutcomeKind::Measured;
    let invalid = |(_, launch): &&(ArmSide, &Launch)| launch.outcome.kind == OutcomeKind::Invalid;
    let found = sides.iter().find(|side| failed(side) && !invalid(side)).or_else(|| sides.iter().find(failed));
    found.map(|(side, launch)| Failure { side: *side, outcome: launch.outcome.clone() })
}

/// A fair coin, fixed by what it is thrown for: whether head runs first.
#[must_use]
pub fn coin(seed: u64, case: &CaseId, stream: &str, index: u32) -> bool {
    number(seed, &format!("{stream}\n{case}\n{index}")) & 1 == 1
}

/// A number fixed by a seed and a purpose, uniform over 64 bits.
fn number(seed: u64, purpose: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    let digest = hash.finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_fair_independent_and_replay() {
        let case = CaseId::from("gemm@cpu");
        let throws: Vec<bool> = (0..4000).map(|index| coin(7, &case, "pair", index)).collect();
        let heads = throws.iter().filter(|head| **head).count();
        // Five standard deviations.
        assert!((1842..=2158).contains(&heads), "{heads} of 4000");
        let repeats = throws.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((1842..=2158).contains(&repeats), "{repeats} of 3999 are like the one before");
        assert_eq!(throws, (0..4000).map(|index| coin(7, &case, "pair", index)).collect::<Vec<_>>());
        assert_ne!(throws, (0..4000).map(|index| coin(8, &case, "pair", index)).collect::<Vec<_>>());
    }
}
