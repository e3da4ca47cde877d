//! `regrade accept`: a person accepts a known change, in the database and in the file for review.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::cli::Accept;
use crate::command::accepted::{Stored, read_waivers, today};
use crate::command::context::{Context, print, write_whole};
use crate::command::git::{self, WorkTree};
use crate::command::usage;
use crate::domain::{Acceptance, Call, CaseId, Direction, Metric, Severity, Waiver};
use crate::exit::Exit;
use crate::render::format;
use crate::store::{RunQuery, Store};
use crate::suite::{did_you_mean, waivers};
use crate::verdict::base::{self, Wanted};
use crate::verdict::chronicle::Series;
use crate::verdict::{self, Head, Session};

/// Sessions looked at for what is pending.
const SESSIONS: u32 = 120;

/// Accepts, or lists what is accepted.
pub fn run(arguments: &Accept, context: &Context) -> Result<Exit> {
    if arguments.list {
        return list(arguments, context);
    }
    let case = arguments.case.as_deref().expect("clap requires it");
    let reason = arguments.reason.as_deref().expect("clap requires it").trim();
    if reason.is_empty() {
        return Err(usage("--reason is empty; say why, for whoever reviews it"));
    }
    let until = arguments.until.map(last_moment).transpose()?;
    let who = arguments.who.clone().or_else(git::person).filter(|who| !who.trim().is_empty());
    let who = who.ok_or_else(|| usage("git knows no user.name here; say who accepts with --who"))?;
    context.must_exist()?;
    let mut store = context.store()?;
    let stored = Stored::read(&store, arguments.suite.as_deref(), SESSIONS)?;
    let series = stored.series(&store)?;
    let newest = newest_verdicts(&stored, &store)?;
    let known = known(&series, &newest, case, &arguments.metric)?;
    let (change, from) = match arguments.change {
        Some(change) => (change, String::new()),
        None => taken(&series, &newest, case, &known)?,
    };
    let worse = match known.direction {
        Direction::LowerIsBetter | Direction::Unknown => change > 0.0,
        Direction::HigherIsBetter => change < 0.0,
    };
    let pending = series.iter().find(|one| one.case.as_str() == case && one.metric.name == known.name);
    let commit = pending
        .and_then(Series::waiting)
        .and_then(|waiting| stored.runs[waiting.first].commit.clone())
        .or_else(|| WorkTree::detect().commit);
    let acceptance = Acceptance {
        suite: stored.suite.clone(),
        case: CaseId::from(case),
        metric: known.name.clone(),
        change,
        reason: reason.to_owned(),
        who: who.clone(),
        since: Timestamp::now(),
        until,
        commit,
    };
    let waiver = Waiver {
        suite: Some(stored.suite),
        case: CaseId::from(case),
        metric: known.name.clone(),
        change,
        reason: reason.to_owned(),
        who,
        until: arguments.until,
    };
    // The file first: it can be refused, and what it refuses must not be in the database.
    if worse {
        append(&arguments.waivers, &waiver)?;
    }
    store.put_acceptance(&acceptance)?;
    let words = arguments.until.map_or_else(String::new, |until| format!(" until {until}"));
    let mut said =
        format!("accepted: {} of `{case}` may change by {}{words}{from}\n", known.name, format::change(change));
    let kept = if worse {
        format!(
            "written to {} and to {}: commit the latter for review\n",
            context.db.display(),
            arguments.waivers.display()
        )
    } else {
        format!("an improvement: written to {}; it needs no waiver\n", context.db.display())
    };
    said.push_str(&kept);
    print(said.as_bytes())?;
    Ok(Exit::Pass)
}

/// The last second of a day in UTC, if it is to come and the database can hold it.
fn last_moment(day: Date) -> Result<Timestamp> {
    /// Moments are stored as nanoseconds, which reach into 2262.
    const LAST_YEAR: i16 = 2261;
    if day < today() {
        return Err(usage(format!("--until {day} has passed already; name the last day that is to count")));
    }
    if day.year() > LAST_YEAR {
        return Err(usage(format!("--until {day} is too far away; leave out --until to accept it for good")));
    }
    let end = day.to_datetime(Time::constant(23, 59, 59, 0));
    TimeZone::UTC.to_timestamp(end).with_context(|| format!("--until {day} is out of range"))
}

/// A metric of the newest run of the suite, whatever its branch, against the history before it.
#[derive(Debug)]
struct Shown {
    case: CaseId,
    metric: Metric,
    /// The worst that a regression may be, where there is one.
    regressed: Option<f64>,
}

/// What the newest run shows, judged as `compare --head latest` does.
fn newest_verdicts(stored: &Stored, store: &dyn Store) -> Result<Vec<Shown>> {
    let key = &stored.runs[0].testbed.key;
    let query = RunQuery {
        suite: Some(stored.suite.clone()),
        testbed: Some(key.clone()),
        fit_as_base: true,
        ..RunQuery::default()
    };
    let runs = store.runs(&query)?;
    let Some(head) = runs.first() else { return Ok(Vec::new()) };
    let tree = WorkTree::detect();
    let wanted = Wanted {
        head: head.id,
        suite: &stored.suite,
        testbed: key,
        base_branch: tree.base_branch.as_deref(),
        stand_ins: true,
        own_branch: head.branch.as_deref(),
        now: head.started,
    };
    let mut history = Vec::new();
    for run in base::choose(&runs, &wanted).runs {
        let other = base::redefined(&head.cases, &run.cases);
        let mut launches = store.summaries(run.id)?;
        launches.retain(|launch| !other.contains(&launch.case));
        history.push(Session { run: run.id, launches });
    }
    let launches = store.summaries(head.id)?;
    let head = Head { run: head.id, cases: &head.cases, launches: &launches };
    let judged = verdict::judge(head, &history, &std::collections::BTreeSet::new(), Severity::None);
    Ok(judged
        .rows
        .into_iter()
        .map(|row| Shown {
            regressed: row
                .verdict
                .estimate
                .filter(|_| row.verdict.call == Call::Regressed)
                .map(|estimate| far_end(estimate, &row.metric)),
            case: row.case,
            metric: row.metric,
        })
        .collect())
}

/// The worse end of an interval: what measuring an accepted change once more may show.
fn far_end(estimate: crate::domain::Estimate, metric: &Metric) -> f64 {
    let end = if metric.direction == Direction::HigherIsBetter { estimate.lower } else { estimate.upper };
    end.unwrap_or(estimate.change)
}

/// The metric that is meant, or what there is instead.
fn known(series: &[Series], newest: &[Shown], case: &str, metric: &str) -> Result<Metric> {
    let all = || {
        let of_series = series.iter().map(|one| (one.case.as_str(), &one.metric));
        of_series.chain(newest.iter().map(|one| (one.case.as_str(), &one.metric)))
    };
    if !all().any(|(id, _)| id == case) {
        let mut cases: Vec<&str> = all().map(|(id, _)| id).collect();
        cases.sort_unstable();
        cases.dedup();
        return Err(usage(format!("no stored run has a case `{case}`; {}", did_you_mean(case, cases, "cases"))));
    }
    let of_case = || all().filter(|(id, _)| *id == case).map(|(_, metric)| metric);
    of_case().find(|known| known.name == metric).cloned().ok_or_else(|| {
        let mut names: Vec<&str> = of_case().map(|metric| metric.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        usage(format!("`{case}` has no metric `{metric}`; {}", did_you_mean(metric, names, "metrics of it")))
    })
}

/// The change to accept where none was given, and where it was taken from.
fn taken(series: &[Series], newest: &[Shown], case: &str, metric: &Metric) -> Result<(f64, String)> {
    let one = series.iter().find(|one| one.case.as_str() == case && one.metric.name == metric.name);
    if let Some(waiting) = one.and_then(Series::waiting) {
        let interval = format::interval(&waiting.change);
        return Ok((far_end(waiting.change, metric), format!(" (the far end of the pending shift's {interval})")));
    }
    if let Some(shift) = one.and_then(|one| one.trace.open().last().map(|shift| one.change(shift))) {
        return Ok((shift.change, " (the pending shift)".to_owned()));
    }
    let shown = newest.iter().find(|shown| shown.case.as_str() == case && shown.metric.name == metric.name);
    match shown.and_then(|shown| shown.regressed) {
        Some(change) => Ok((change, " (the far end of the newest run's interval)".to_owned())),
        None => Err(usage(format!(
            "nothing is pending of {} of `{case}`, and the newest run shows no regression of it; say what to accept \
             with --change",
            metric.name
        ))),
    }
}

/// Adds an entry to the file; what is there stays as it is.
fn append(path: &Path, waiver: &Waiver) -> Result<()> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => waivers::PREAMBLE.to_owned(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let after = format!("{before}{end}{}", waivers::entry(waiver));
    // What is there may be wrong, or written so that nothing can be appended: said before it is made worse.
    waivers::parse(&path.display().to_string(), &after)?;
    write_whole(path, |file| file.write_all(after.as_bytes()))
}

/// What the database and the file hold.
fn list(arguments: &Accept, context: &Context) -> Result<Exit> {
    let mut said = String::new();
    if context.db.exists() {
        let store = context.stored()?;
        let runs = store.runs(&RunQuery::default())?;
        let mut suites: Vec<&str> = runs.iter().map(|run| run.suite.name.as_str()).collect();
        suites.sort_unstable();
        suites.dedup();
        for suite in suites {
            for accepted in store.acceptances(suite)? {
                let until = accepted.until.map_or_else(String::new, |until| format!(" until {}", day(until)));
                let _ = writeln!(
                    said,
                    "{suite}: {} of `{}` {} accepted on {}{until} by {}: {}",
                    accepted.metric,
                    accepted.case,
                    format::change(accepted.change),
                    day(accepted.since),
                    accepted.who,
                    format::line(&accepted.reason)
                );
            }
        }
    }
    let named = Some(arguments.waivers.as_path()).filter(|path| path.exists());
    for waiver in named.map(|path| read_waivers(Some(path))).transpose()?.unwrap_or_default() {
        let state = match waiver.until {
            Some(until) if waiver.has_expired(today()) => format!("expired on {until}"),
            Some(until) => format!("live until {until}"),
            None => "live".to_owned(),
        };
        let _ = writeln!(
            said,
            "{}: {} of `{}` up to {}, {state}, by {}: {}",
            arguments.waivers.display(),
            waiver.metric,
            waiver.case,
            format::change(waiver.change),
            format::line(&waiver.who),
            format::line(&waiver.reason)
        );
    }
    if said.is_empty() {
        said = format!("nothing is accepted in {} or {}\n", context.db.display(), arguments.waivers.display());
    }
    print(said.as_bytes())?;
    Ok(Exit::Pass)
}

fn day(at: Timestamp) -> String {
    format::moment(at).chars().take(10).collect()
}
