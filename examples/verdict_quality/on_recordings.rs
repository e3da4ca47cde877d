//! Single comparisons on recorded noise: the production rules and those of other tools, on the same launches.
//!
//! Must not decide anything itself.

use std::fmt::Write as _;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use regrade::domain::{
    Call, Case, CaseId, LaunchId, LaunchSummary, Metric, Outcome, RunId, Samples, Severity, Thresholds,
};
use regrade::stats::evidence::{Side, interquartile_spread};
use regrade::stats::quantile::{quantile, sorted};
use regrade::store::summary;
use regrade::verdict::confirm::{Confirmation, Rules};
use regrade::verdict::paired::{Answer, PAIRS_MAX, Question};
use regrade::verdict::policy::PRIOR_SPREAD;
use regrade::verdict::recorded::{self, Recording};

use crate::end_to_end::record;
use crate::figures::{Share, percent, table};
use crate::peers::{PEERS, Says};
use crate::recordings::{Cell, EFFECTS, Half, Launches, Trial};
use crate::worlds::Draw;

/// Comparisons drawn from each workload of each recording, for each size of change.
const TRIALS: usize = 100;
/// Rounds of a comparison of fixed size.
const SIZES: [usize; 2] = [20, 10];
/// A rule with fewer false alarms is a rival.
const TOLERABLE: f64 = 0.01;
/// Comparisons that share the false-alarm budget with a replayed one.
const COMPARISONS: usize = 10;
/// Smallest spread of pairs believed, log units.
const FLOOR: f64 = 1e-4;
/// Another statistic than the median is taken where it is so much steadier (STATISTICS.md section 2).
const WORTH: f64 = 0.8;

/// How a rule did.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    ours: bool,
    alarms: Share,
    /// By [`EFFECTS`].
    power: [Share; EFFECTS.len()],
    /// Pairs taken without a change, on average, where the rule takes them one by one.
    pairs: Option<f64>,
}

/// Everything measured on recordings.
#[derive(Debug)]
pub struct Tables {
    half: Half,
    rounds: usize,
    /// By number of rounds: all rules on interleaved launches.
    interleaved: Vec<(usize, Vec<Row>)>,
    sequential: Vec<Row>,
    /// Sides from different stretches of time, and from different recordings.
    apart: Vec<(&'static str, Vec<Row>)>,
}

type Rule<'a> = Box<dyn Fn(&Trial, &mut Draw) -> Says + Sync + 'a>;

fn limits(minor: f64) -> Thresholds {
    Thresholds { minor, ..Thresholds::default() }
}

/// `regrade judge`.
fn ours(trial: &Trial, interleaved: bool, minor: f64) -> Says {
    let recording = Recording { base: &trial.base, head: &trial.head, interleaved };
    let metric = recorded::metric("latency", "s", true);
    match recorded::decide(recording, &metric, &limits(minor), recorded::ALPHA).verdict.call {
        Call::Regressed => Says::Worse,
        Call::Improved => Says::Better,
        Call::Unchanged | Call::Inconclusive | Call::NotComparable => Says::Nothing,
    }
}

fn rules<'a>(interleaved: bool) -> Vec<(String, bool, Rule<'a>)> {
    let own = [0.01, 0.02].map(|minor| -> (String, bool, Rule<'a>) {
        let name = format!("**regrade judge**, thresholds {:.0}/5/15 %", 100.0 * minor);
        (name, true, Box::new(move |trial, _| ours(trial, interleaved, minor)))
    });
    let peers =
        PEERS.iter().map(|peer| -> (String, bool, Rule<'a>) { (peer.name.to_owned(), false, Box::new(peer.rule)) });
    own.into_iter().chain(peers).collect()
}

/// Plays every rule on the same comparisons of every cell.
fn play(
    cells: &[Cell],
    rules: &[(String, bool, Rule<'_>)],
    draw_trial: &(dyn Fn(usize, Option<usize>, &mut Draw) -> Trial + Sync),
) -> Vec<Row> {
    let new = |(name, ours, _): &(String, bool, Rule<'_>)| Row {
        name: name.clone(),
        ours: *ours,
        alarms: Share::default(),
        power: [Share::default(); EFFECTS.len()],
        pairs: None,
    };
    let places: Vec<usize> = (0..cells.len()).collect();
    let by_cell: Vec<Vec<Row>> = places
        .par_iter()
        .map(|cell| {
            let mut rows: Vec<Row> = rules.iter().map(new).collect();
            for effect in std::iter::once(None).chain((0..EFFECTS.len()).map(Some)) {
                for number in 0..TRIALS {
                    let stream = ((cell * 10 + effect.map_or(0, |effect| effect + 1)) * TRIALS + number) as u64;
                    let mut draw = Draw::new(7, stream);
                    let trial = draw_trial(*cell, effect, &mut draw);
                    for (row, (_, _, rule)) in rows.iter_mut().zip(rules) {
                        let says = rule(&trial, &mut draw);
                        match effect {
                            None => row.alarms.count(says != Says::Nothing),
                            Some(effect) => row.power[effect].count(says == Says::Worse),
                        }
                    }
                }
            }
            rows
        })
        .collect();
    let mut sum: Vec<Row> = rules.iter().map(new).collect();
    for rows in by_cell {
        for (into, row) in sum.iter_mut().zip(rows) {
            into.alarms = into.alarms.and(row.alarms);
            for (power, more) in into.power.iter_mut().zip(row.power) {
                *power = power.and(more);
            }
        }
    }
    sum
}

/// What stands for a launch in pairs, and the spread expected of a pair: learnt from honest launches, two a round.
#[derive(Debug, Clone, Copy)]
struct Noise {
    share: f64,
    spread: f64,
}

impl Noise {
    /// Nothing is known yet.
    const UNKNOWN: Self = Self { share: 0.5, spread: PRIOR_SPREAD };

    fn learnt(honest: &Launches) -> Self {
        let spread = |share: f64| {
            let differences: Vec<f64> =
                honest.chunks_exact(2).map(|pair| value(&pair[1], share) - value(&pair[0], share)).collect();
            interquartile_spread(&differences)
        };
        let mut noise = Self { share: 0.5, spread: spread(0.5) };
        for share in [0.25, 0.0] {
            if spread(share) < WORTH * noise.spread {
                noise = Self { share, spread: spread(share) };
            }
        }
        noise
    }
}

fn value(samples: &[f64], share: f64) -> f64 {
    quantile(&sorted(&samples.iter().map(|sample| sample.ln()).collect::<Vec<_>>()), share)
}

/// The decision after every pair, replayed over all rounds of the half.
fn sequential(cells: &[Cell], half: Half, learn: bool, minor: f64) -> Row {
    let question = Question::new(&limits(minor), COMPARISONS);
    let places: Vec<usize> = (0..cells.len()).collect();
    let name = format!(
        "pair by pair, thresholds {:.0}/5/15 %, {}",
        100.0 * minor,
        if learn { "noise learnt from the other half" } else { "median, nothing known of the noise" }
    );
    let by_cell: Vec<(Row, usize)> = places
        .par_iter()
        .map(|place| {
            let cell = &cells[*place];
            let mut row = Row {
                name: name.clone(),
                ours: true,
                alarms: Share::default(),
                power: [Share::default(); EFFECTS.len()],
                pairs: None,
            };
            let mut taken = 0;
            for effect in std::iter::once(None).chain((0..EFFECTS.len()).map(Some)) {
                for number in 0..TRIALS {
                    let stream = ((place * 10 + effect.map_or(0, |effect| effect + 1)) * TRIALS + number) as u64;
                    let mut draw = Draw::new(9, stream);
                    let trial = cell.interleaved(half, cell.rounds() / 2, effect, &mut draw);
                    let noise = if learn { Noise::learnt(&trial.history) } else { Noise::UNKNOWN };
                    let differences: Vec<f64> = trial
                        .base
                        .iter()
                        .zip(&trial.head)
                        .map(|(base, head)| value(head, noise.share) - value(base, noise.share))
                        .collect();
                    let (answer, pairs) = question.replay(&differences, noise.spread.max(FLOOR), FLOOR);
                    match effect {
                        None => {
                            row.alarms.count(matches!(answer, Answer::Changed { .. }));
                            taken += pairs;
                        }
                        Some(effect) => {
                            row.power[effect].count(matches!(answer, Answer::Changed { side: Side::Above, .. }));
                        }
                    }
                }
            }
            (row, taken)
        })
        .collect();
    let (mut rows, taken): (Vec<Row>, Vec<usize>) = by_cell.into_iter().unzip();
    let mut sum = rows.pop().expect("there are recordings");
    for row in rows {
        sum.alarms = sum.alarms.and(row.alarms);
        for (power, more) in sum.power.iter_mut().zip(row.power) {
            *power = power.and(more);
        }
    }
    sum.pairs = Some(taken.iter().sum::<usize>() as f64 / sum.alarms.of as f64);
    sum
}

/// As `compare` decides: one session of all workloads of both recordings, in which each bets on the statistic that its own
/// earlier pairs showed steadier; nothing is known of the noise.
fn sessions(cells: &[Cell], half: Half) -> Row {
    let cases: Vec<Case> = cells.iter().map(|cell| record(&cell.name, false).case).collect();
    let rules = Rules { most: PAIRS_MAX, exhaustive: false };
    let mut row = Row {
        name: "pair by pair, thresholds 2/5/15 %, as `compare` does without calibration".to_owned(),
        ours: true,
        alarms: Share::default(),
        power: [Share::default(); EFFECTS.len()],
        pairs: None,
    };
    let numbers: Vec<usize> = (0..TRIALS).collect();
    let mut taken = 0;
    for effect in std::iter::once(None).chain((0..EFFECTS.len()).map(Some)) {
        let played: Vec<(Vec<Call>, usize)> = numbers
            .par_iter()
            .map(|number| {
                let mut session = Confirmation::new(cases.iter().enumerate(), Vec::new(), rules);
                let trials: Vec<Trial> = cells
                    .iter()
                    .enumerate()
                    .map(|(place, cell)| {
                        let stream = ((place * 10 + effect.map_or(0, |effect| effect + 1)) * TRIALS + number) as u64;
                        cell.interleaved(half, cell.rounds() / 2, effect, &mut Draw::new(9, stream))
                    })
                    .collect();
                for (place, trial) in trials.iter().enumerate() {
                    let id = &cases[place].id;
                    session.warmed(place, &launch(id, &trial.base[0]), &launch(id, &trial.head[0]), 1.0);
                }
                session.begin(None);
                let mut round = 0;
                loop {
                    let open = session.open();
                    if open.is_empty() || round >= trials[0].base.len() {
                        break;
                    }
                    for place in open {
                        let (id, trial) = (&cases[place].id, &trials[place]);
                        session.take(place, launch(id, &trial.base[round]), launch(id, &trial.head[round]));
                    }
                    round += 1;
                }
                let run = RunId::fresh();
                let (rows, _) = session.rows(run, run, Severity::Moderate);
                (rows.into_iter().map(|row| row.verdict.call).collect(), session.pairs_made())
            })
            .collect();
        for (calls, pairs) in played {
            for call in calls {
                match effect {
                    None => row.alarms.count(matches!(call, Call::Regressed | Call::Improved)),
                    Some(effect) => row.power[effect].count(call == Call::Regressed),
                }
            }
            if effect.is_none() {
                taken += pairs;
            }
        }
    }
    row.pairs = Some(taken as f64 / row.alarms.of as f64);
    row
}

fn launch(case: &CaseId, samples: &[f64]) -> LaunchSummary {
    let metric = Metric::standard(Metric::LATENCY).expect("in the table");
    let samples = Samples { metric, iterations: 1, clock: None, values: samples.to_vec() };
    LaunchSummary {
        id: LaunchId::fresh(),
        case: case.clone(),
        index: 0,
        outcome: Outcome::measured(),
        metrics: vec![summary::of_samples(&samples)],
    }
}

impl Tables {
    /// Measures on one half; `say` is told what is done.
    pub fn measure(cells: &[Cell], half: Half, say: &dyn Fn(&str)) -> Self {
        let interleaved = SIZES
            .iter()
            .map(|rounds| {
                let draw_trial = |cell: usize, effect: Option<usize>, draw: &mut Draw| {
                    cells[cell].interleaved(half, *rounds, effect, draw)
                };
                let rows = play(cells, &rules(true), &draw_trial);
                say(&format!("{rounds} interleaved rounds"));
                (*rounds, rows)
            })
            .collect();
        let other = |cell: usize| {
            let workload = |cell: &Cell| cell.name.trim_start_matches(&cell.recording).to_owned();
            let find = |of: &&Cell| of.recording != cells[cell].recording && workload(of) == workload(&cells[cell]);
            cells.iter().find(find).expect("both recordings have the same workloads")
        };
        let stretches = |cell: usize, effect: Option<usize>, draw: &mut Draw| {
            cells[cell].apart(&cells[cell], half, SIZES[1], effect, draw)
        };
        let moods = |cell: usize, effect: Option<usize>, draw: &mut Draw| {
            cells[cell].apart(other(cell), half, SIZES[1], effect, draw)
        };
        let apart = vec![
            ("another stretch of the same recording", play(cells, &rules(false), &stretches)),
            ("the other recording", play(cells, &rules(false), &moods)),
        ];
        say("sides that were not interleaved");
        let mut sequential: Vec<Row> = [(true, 0.01), (true, 0.02), (false, 0.02)]
            .map(|(learn, minor)| sequential(cells, half, learn, minor))
            .into();
        sequential.push(sessions(cells, half));
        say("pairs one by one");
        Self { half, rounds: cells.first().map_or(0, Cell::rounds), interleaved, sequential, apart }
    }

    /// False alarms of the defaults on sides that were not interleaved.
    pub fn apart_alarms(&self) -> impl Iterator<Item = (&'static str, Share)> {
        let names =
            ["false alarms, not interleaved: same recording", "false alarms, not interleaved: the other recording"];
        self.apart.iter().zip(names).map(|((_, rows), name)| {
            let worst = rows.iter().filter(|row| row.ours).max_by_key(|row| row.alarms.hits).expect("ours are in it");
            (name, worst.alarms)
        })
    }

    /// A line for each of our rules, size of change and number of rounds: whether any other rule with tolerable false
    /// alarms does better.
    pub fn rivals(&self) -> Vec<Vec<String>> {
        let mut lines = Vec::new();
        for (rounds, rows) in &self.interleaved {
            let rivals: Vec<&Row> = rows.iter().filter(|row| !row.ours && row.alarms.value() < TOLERABLE).collect();
            for row in rows.iter().filter(|row| row.ours) {
                for effect in [1, 2, 3, 4] {
                    let best = rivals.iter().max_by_key(|rival| rival.power[effect].hits);
                    let best_share = best.map_or(0.0, |best| best.power[effect].value());
                    let kept = row.alarms.value() < TOLERABLE && row.power[effect].value() >= best_share;
                    lines.push(vec![
                        format!("{} at {} %, {rounds} rounds", row.name, percent(EFFECTS[effect])),
                        format!(
                            "the best of others with under 1 % false alarms, {} %{}",
                            percent(best_share),
                            best.filter(|_| best_share > 0.0).map_or(String::new(), |best| format!(" ({})", best.name))
                        ),
                        row.power[effect].to_string(),
                        if kept { "kept" } else { "missed" }.to_owned(),
                    ]);
                }
            }
        }
        lines
    }

    /// All tables.
    pub fn markdown(&self) -> String {
        let half = match self.half {
            Half::Choosing => "first half (for choosing rules)",
            Half::Reporting => "second half (no rule was fitted to it)",
        };
        let mut head = vec!["rule", "false alarms"];
        head.extend(["1 %", "2 %", "5 %", "10 %", "25 %"]);
        let show = |rows: &[Row], with_pairs: bool| {
            let mut head = head.clone();
            if with_pairs {
                head.push("pairs without a change");
            }
            let lines: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    let mut line = vec![row.name.clone(), row.alarms.to_string()];
                    line.extend(row.power.iter().map(|share| format!("{:.1}", 100.0 * share.value())));
                    line.extend(row.pairs.map(|pairs| format!("{pairs:.1}")));
                    line
                })
                .collect();
            table(&head, &lines)
        };
        let mut text = format!(
            "## Recorded noise\n\nRecordings of {} rounds, five workloads, calm and busy (`tests/fixtures/recordings/README.md`), wall \
             time; {half}. From every workload of either recording {TRIALS} comparisons are drawn for each size of change; a coin \
             says which of the two honest launches of a round plays base. They overlap, so intervals are too narrow as statements \
             about other machines. Power in percent.\n\n",
            self.rounds
        );
        for (rounds, rows) in &self.interleaved {
            let _ = writeln!(text, "### {rounds} interleaved rounds\n\n{}", show(rows, false));
        }
        text += "What differs from the tools themselves: a launch is one run, its value the mean of its samples (rustc-perf: the \
                 median); the ratio rule compares means of all launches where its users compare single runs; criterion makes 500 resamples \
                 instead of 100,000; rustc-perf learns its fence from the other half of the recording, two launches a commit.\n\n";
        let _ = write!(
            text,
            "### Pair by pair, up to {} rounds\n\nThe evidence of {COMPARISONS} comparisons shares the budget.\n\n{}\n",
            self.rounds / 2,
            show(&self.sequential, true)
        );
        for (what, rows) in &self.apart {
            let _ = write!(
                text,
                "### Not interleaved: {} launches a side, head from {what}\n\n{}\n",
                SIZES[1],
                show(rows, false)
            );
        }
        text
    }
}
