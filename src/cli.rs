//! The command line, as clap definitions in flattened groups. Allowed values come from the tables of ports.
//!
//! Must not know what a command does: it only names the words.

use std::path::PathBuf;
use std::time::Duration;

pub use clap::ColorChoice;
use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;

use crate::backend::BACKENDS;
use crate::backend::xla::plugins::package::PACKAGES;
use crate::domain::{Metric, Severity, Thresholds};
use crate::exit::Exit;
use crate::hardware::lock::Asked;
use crate::render::RENDERERS;
use crate::suite::waivers::{self, change};
use crate::verdict::recorded::ALPHA;

/// Grades performance regressions in CI: none, minor, moderate or severe.
#[derive(Debug, Parser)]
#[command(name = "regrade", version, about, after_help = exit_codes(), max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Settings of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Settings of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Database of runs
    #[arg(long, global = true, env = "REGRADE_DB", value_name = "FILE", default_value = "baselines/regrade.sqlite")]
    pub db: PathBuf,
    /// When to colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Say nothing about progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set a repository up: a suite, workflows, ignored outputs
    Init(Init),
    /// Measure a suite and store the run
    Run(Run),
    /// Compare head with its base: measure now, or take two stored runs
    Compare(Compare),
    /// Learn what can be seen here: measure a suite against itself, and prove that the gate trips
    Calibrate(Calibrate),
    /// Find the commit that changed a case, by paired launches
    Bisect(Bisect),
    /// Judge samples from anywhere: verdicts on base and head, steps in series
    Judge(Judge),
    /// Show a stored run
    Report(Report),
    /// Tell the pull request: comment, check, status, job summary
    Post(Post),
    /// Answer `/regrade …` in a comment on a pull request
    Bot(Bot),
    /// List suites, their cases, what each needs, and why one would be skipped here
    List(List),
    /// Keep, name, share and prune stored runs
    Baseline(Baseline),
    /// Say which plugins of the xla backend are here, install and remove them
    Backend(Backend),
    /// Show each metric through the sessions: levels, pending shifts, who is charged, what was accepted
    History(History),
    /// Accept a known change: in the database, and in regrade-waivers.toml for review
    Accept(Accept),
    /// Say what this machine is, and whether it is fit to measure
    Doctor(Doctor),
    /// Print a JSON Schema of a format
    Schema(Schema),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Run one case in this process (started by the runner)
    #[command(hide = true)]
    Worker,
    /// Let XLA's compiler tune a program's kernels (started by a worker)
    #[command(hide = true)]
    Tune,
    /// Lock GPU clocks until standard input ends (started by the measuring commands)
    #[command(hide = true)]
    HoldClocks {
        /// Which clock
        asked: Asked,
    },
}

/// Text for people or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Which cases.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct Select {
    /// Only programs compiled for devices that are not here: the same as `--backend xla:compile`
    #[arg(long, conflicts_with = "backend")]
    pub compile_only: bool,
    /// Only cases whose id matches the glob, e.g. 'bert*batch=8*'; repeat for more
    #[arg(long, short, value_name = "GLOB")]
    pub filter: Vec<String>,
    /// Only cases with this tag; repeat for more
    #[arg(long, short, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Only this backend; repeat for more
    #[arg(long, short, value_name = "NAME", value_parser = backend_names())]
    pub backend: Vec<String>,
}

/// How a session measures.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Measuring")]
pub struct Measure {
    /// Launches (worker processes) of each case, instead of the suite's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub launches: Option<u32>,
    /// Seed of the launch order, to repeat one that was logged
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Make matching cases do this much more real work, e.g. 'gemm*=30%'; the run is stamped synthetic
    #[arg(long, value_name = "GLOB=PERCENT")]
    pub inject: Vec<String>,
    /// Go on with the last run of this suite that was interrupted
    #[arg(long)]
    pub resume: bool,
    /// At which clocks.
    #[command(flatten)]
    pub clocks: Clocks,
}

/// The clocks of GPUs while a session measures.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Measuring")]
pub struct Clocks {
    /// Lock the clocks of NVIDIA GPUs while measuring, at their base clock or at one they support, and put them back; needs root
    /// and GPUs that nobody else uses
    #[arg(
        long,
        env = "REGRADE_LOCK_CLOCKS",
        value_name = "MHZ",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "base"
    )]
    pub lock_clocks: Option<Asked>,
}

/// `regrade init`
#[derive(Debug, Args)]
pub struct Init {
    /// Name of the suite; by default the repository folder's
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Write the GPU lane too; by default where an NVIDIA GPU is found
    #[arg(long)]
    pub gpu: bool,
    /// Overwrite files that are there
    #[arg(long)]
    pub force: bool,
    /// Only say what would be written
    #[arg(long)]
    pub dry_run: bool,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade run`
#[derive(Debug, Args)]
pub struct Run {
    /// Suite file; by default suites/quickstart.toml
    pub suite: Option<PathBuf>,
    /// Which cases.
    #[command(flatten)]
    pub select: Select,
    /// How.
    #[command(flatten)]
    pub measure: Measure,
    /// End with exit code 3 where a required target is inconclusive
    #[arg(long)]
    pub require_decision: bool,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade compare`
#[derive(Debug, Clone, Args)]
pub struct Compare {
    /// Suite file, by default the one measured here last, else suites/quickstart.toml; and two commits to measure against each other
    #[arg(value_name = "SUITE|BASE..HEAD", num_args = 0..=2)]
    pub targets: Vec<String>,
    /// What to judge: a commit, by default the work tree; or a stored run (id, unique prefix, `latest`), measuring nothing
    #[arg(long, value_name = "REF|RUN")]
    pub head: Option<String>,
    /// What plays base: a commit, a stored run, a branch, or the name of a baseline; by default where the default branch
    /// was left, and that branch's last runs here
    #[arg(long, value_name = "REF|RUN|BRANCH|NAME")]
    pub base: Option<String>,
    /// Show the same work on every backend side by side instead, of a suite measured now or of a stored run: no verdict
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(["backend"]))]
    pub across: Option<String>,
    /// Screen with history and measure no pairs
    #[arg(long, conflicts_with = "all_pairs")]
    pub history_only: bool,
    /// Pair every case, whatever history says
    #[arg(long)]
    pub all_pairs: bool,
    /// Most pairs of a case
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=1000))]
    pub max_pairs: Option<u32>,
    /// Wall time that the pairs may take, e.g. 10m, instead of the suite's budget
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,
    /// Fail from this severity on, instead of the suite's gate
    #[arg(long, value_name = "SEVERITY", value_parser = PossibleValuesParser::new(["none", "minor", "moderate", "severe"]))]
    pub gate: Option<String>,
    /// End with exit code 3 when a gated metric stays inconclusive
    #[arg(long)]
    pub require_decision: bool,
    /// Folder for report files
    #[arg(long, value_name = "DIR", default_value = "reports/latest")]
    pub reports: PathBuf,
    /// Accepted regressions; by default regrade-waivers.toml in this folder, where there is one
    #[arg(long, value_name = "FILE")]
    pub waivers: Option<PathBuf>,
    /// Which cases.
    #[command(flatten)]
    pub select: Select,
    /// How.
    #[command(flatten)]
    pub measure: Measure,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade calibrate`
#[derive(Debug, Args)]
pub struct Calibrate {
    /// Suite file; by default the one measured here last, else suites/quickstart.toml
    pub suite: Option<PathBuf>,
    /// Pairs of each case against itself
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(6..=1000))]
    pub pairs: u32,
    /// Inject no work afterwards to prove that the gate trips
    #[arg(long)]
    pub no_proof: bool,
    /// Wall time that each of the two parts may take, e.g. 10m
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,
    /// Seed of coins and orders, to repeat those that were logged
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// At which clocks.
    #[command(flatten)]
    pub clocks: Clocks,
    /// Which cases.
    #[command(flatten)]
    pub select: Select,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade bisect`
#[derive(Debug, Args)]
pub struct Bisect {
    /// A commit without the change
    pub good: String,
    /// A later commit with it
    pub bad: String,
    /// The case, by id or a glob that stands for one
    #[arg(long, value_name = "CASE")]
    pub case: String,
    /// The metric; by default the first that may fail CI
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Suite file; by default the one measured here last, else suites/quickstart.toml
    #[arg(long, value_name = "FILE")]
    pub suite: Option<PathBuf>,
    /// At which clocks.
    #[command(flatten)]
    pub clocks: Clocks,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

impl Bisect {
    /// Every case: the one that is meant is chosen by its own rules.
    #[must_use]
    pub const fn select(&self) -> Select {
        Select { compile_only: false, filter: Vec::new(), tag: Vec::new(), backend: Vec::new() }
    }
}

/// `regrade judge`
#[derive(Debug, Args)]
pub struct Judge {
    /// Recorded samples: JSON, or CSV with the columns id, side, launch, value
    pub input: PathBuf,
    /// File for the verdicts, as JSON
    pub output: Option<PathBuf>,
    /// Limits of minor, moderate and severe
    #[arg(long, value_name = "MINOR,MODERATE,SEVERE", default_value = "2%,5%,15%", value_parser = thresholds)]
    pub thresholds: Thresholds,
    /// Chance of a false class, per comparison and direction
    #[arg(long, value_name = "SHARE", default_value_t = ALPHA, value_parser = level)]
    pub alpha: f64,
    /// End with exit code 1 when a pair regressed this much; series are described, not gated
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub gate: Option<Severity>,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `90s`, `10m`, `2h`
fn time(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is no time such as 90s, 10m or 2h")),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * factor).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("`{text}` is no time such as 90s, 10m or 2h"))
}

/// `5%` or `0.05`; a bare number of 1 or more is more likely a forgotten `%` than a factor.
fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse().map(|share: f64| if share >= 1.0 { f64::NAN } else { share }),
    }
    .ok()
    .filter(|share| !share.is_nan())
    .ok_or_else(|| format!("`{text}` is no share such as 5% or 0.05"))
}

/// `1%,5%,15%`
fn thresholds(text: &str) -> Result<Thresholds, String> {
    let parts = text.split(',').map(share).collect::<Result<Vec<f64>, String>>()?;
    let [minor, moderate, severe] = parts[..] else {
        return Err(format!("three limits are needed, as in 2%,5%,15%; got {}", parts.len()));
    };
    let thresholds = Thresholds { minor, moderate, severe, absolute_floor: None };
    thresholds.validate().map_err(|error| error.to_string())?;
    Ok(thresholds)
}

/// A level above 0 and below one half.
fn level(text: &str) -> Result<f64, String> {
    share(text)
        .ok()
        .filter(|level| *level >= 1e-9 && *level < 0.5)
        .ok_or_else(|| "a level is above 0 and below 0.5, such as 0.005 or 0.5%".to_owned())
}

fn severity(text: &str) -> Result<Severity, String> {
    Severity::ALL
        .into_iter()
        .find(|severity| severity.as_str() == text)
        .ok_or_else(|| format!("one of {}", Severity::ALL.map(Severity::as_str).join(", ")))
}

/// `regrade report`
#[derive(Debug, Args)]
pub struct Report {
    /// Run id or unique prefix, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Output format
    #[arg(long, value_parser = renderer_names(), default_value = "terminal")]
    pub format: String,
}

/// Whether to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Do it
    On,
    /// Leave it
    Off,
}

/// `regrade post`
#[derive(Debug, Args)]
pub struct Post {
    /// Reports that `compare` wrote (report.json)
    #[arg(value_name = "REPORT", required_unless_present_any = ["start", "run_id"])]
    pub reports: Vec<PathBuf>,
    /// Open the check before anything is measured; `post REPORT` completes it
    #[arg(long, conflicts_with = "reports")]
    pub start: bool,
    /// Print every request instead of sending it
    #[arg(long, conflicts_with = "run_id")]
    pub dry_run: bool,
    /// What others measured
    #[command(flatten)]
    pub others: Others,
    /// Where to post
    #[command(flatten)]
    pub place: Place,
    /// What to post
    #[command(flatten)]
    pub surfaces: Surfaces,
}

/// What was measured where the code of a pull request ran. It is believed no more than its numbers: verdicts are made again,
/// by the suite of the base branch.
#[derive(Debug, Args)]
#[command(next_help_heading = "What others measured")]
pub struct Others {
    /// Post what this run of another workflow measured, for the pull request that GitHub says it was about
    #[arg(long, value_name = "ID", conflicts_with_all = ["reports", "sha", "pr"])]
    pub run_id: Option<u64>,
    /// Artifact that holds its report
    #[arg(long, value_name = "NAME", default_value = "regrade-report")]
    pub artifact: String,
    /// Suite file on the base branch to judge by; a stranger's report may not choose it
    #[arg(long, value_name = "FILE")]
    pub suite: Option<String>,
    /// Judge pull requests into these branches beside the default one; repeat for more
    #[arg(long, value_name = "GLOB")]
    pub base: Vec<String>,
    /// Fail from this severity on, instead of the suite's gate
    #[arg(long, value_name = "SEVERITY", value_parser = ["none", "minor", "moderate", "severe"])]
    pub gate: Option<String>,
    /// Only these cases were asked for; repeat for more
    #[arg(long, value_name = "GLOB")]
    pub filter: Vec<String>,
}

/// Where to post: what the job's environment says, unless said here.
#[derive(Debug, Args)]
#[command(next_help_heading = "Place")]
pub struct Place {
    /// Repository, instead of `GITHUB_REPOSITORY`
    #[arg(long, value_name = "OWNER/NAME")]
    pub repo: Option<String>,
    /// Commit that was measured, instead of the event's head
    #[arg(long, value_name = "HASH")]
    pub sha: Option<String>,
    /// Pull request, instead of the event's
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub pr: Option<u64>,
    /// Who we are, to find our own comment; `github-actions[bot]` for a workflow's token
    #[arg(long, value_name = "LOGIN")]
    pub author: Option<String>,
    /// Tells several comments on one pull request apart
    #[arg(long, value_name = "WORD", default_value = "regrade")]
    pub key: String,
    /// Waiting that rate limits and broken connections may cost in all
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "120s")]
    pub patience: Duration,
}

/// What to post.
#[derive(Debug, Args)]
#[command(next_help_heading = "Surfaces")]
pub struct Surfaces {
    /// The comment on the pull request
    #[arg(long, value_enum, value_name = "WHEN", default_value = "on")]
    pub comment: Switch,
    /// The check on the commit
    #[arg(long, value_enum, value_name = "WHEN", default_value = "on")]
    pub check: Switch,
    /// The commit status, where branch protection asks for one
    #[arg(long, value_enum, value_name = "WHEN", default_value = "off")]
    pub status: Switch,
    /// The job summary (`GITHUB_STEP_SUMMARY`)
    #[arg(long, value_enum, value_name = "WHEN", default_value = "on")]
    pub summary: Switch,
    /// Plots on a branch, linked in the comment; without them a chart is drawn with text
    #[arg(long, value_enum, value_name = "WHEN", default_value = "on")]
    pub pictures: Switch,
    /// Name of the check and of the status
    #[arg(long, value_name = "NAME", default_value = "regrade", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: String,
    /// Branch that holds the plots
    #[arg(long, value_name = "BRANCH", default_value = "regrade-plots")]
    pub plots_branch: String,
}

/// What `regrade bot` answers to; its `--help` and its answer to `/regrade help` say the same.
pub const COMMENTS: &str = "\
/regrade compare [at COMMIT]
/regrade rerun CASE [at COMMIT]
/regrade accept CASE [METRIC] [up to 8%] [at COMMIT] because REASON
/regrade help";

/// What the bot is for, and what must be around it.
fn bot_help() -> String {
    let commands = COMMENTS.replace('\n', "\n  ");
    format!(
        "In a comment, the first line that begins with /regrade:\n  {commands}\n\n\
         Runs in a workflow on `issue_comment`, with GITHUB_TOKEN in the environment. GitHub is asked what whoever wrote the \
         comment may do, and whether the comment still stands; only who may write is answered, once. What is to be started \
         stands in GITHUB_OUTPUT: command (compare, rerun, accept or nothing), pr, sha, case."
    )
}

/// `regrade bot`
#[derive(Debug, Args)]
#[command(after_help = bot_help())]
pub struct Bot {
    /// Print every request and the outputs instead of sending and writing them; whoever wrote the comment may write, then
    #[arg(long)]
    pub dry_run: bool,
    /// Repository, instead of `GITHUB_REPOSITORY`
    #[arg(long, value_name = "OWNER/NAME")]
    pub repo: Option<String>,
    /// Who we are, to find our own answers; `github-actions[bot]` for a workflow's token
    #[arg(long, value_name = "LOGIN")]
    pub author: Option<String>,
    /// Waiting that rate limits and broken connections may cost in all
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "120s")]
    pub patience: Duration,
}

/// `regrade list`
#[derive(Debug, Args)]
pub struct List {
    /// Suite files or folders with suites
    #[arg(default_value = "suites")]
    pub suites: Vec<PathBuf>,
    /// Which cases.
    #[command(flatten)]
    pub select: Select,
    /// Also list every case
    #[arg(long)]
    pub cases: bool,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade history`
#[derive(Debug, Args)]
pub struct History {
    /// Suite file, or the name of a suite with stored runs; by default the newest run's
    pub suite: Option<String>,
    /// Only cases whose id matches the glob; repeat for more
    #[arg(long, value_name = "GLOB")]
    pub case: Vec<String>,
    /// Only this metric; by default those that may fail CI
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// The newest sessions to look at
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub last: u32,
    /// Folder for a picture (SVG and PNG) of each series
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade accept`
#[derive(Debug, Args)]
pub struct Accept {
    /// The case's id
    #[arg(required_unless_present = "list")]
    pub case: Option<String>,
    /// The metric
    #[arg(long, value_name = "NAME", default_value = Metric::LATENCY)]
    pub metric: String,
    /// The largest change accepted, such as +8%; by default what is pending, or what the newest run shows
    #[arg(long, value_name = "PERCENT", value_parser = change, allow_hyphen_values = true)]
    pub change: Option<f64>,
    /// Why it is accepted
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    pub reason: Option<String>,
    /// The last day it counts (UTC); for good without
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub until: Option<Date>,
    /// Who accepts; by default git's user.name and user.email
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Suite file, or the name of a suite with stored runs; by default the newest run's
    #[arg(long, value_name = "FILE|NAME")]
    pub suite: Option<String>,
    /// The file for review
    #[arg(long, value_name = "FILE", default_value = waivers::FILE)]
    pub waivers: PathBuf,
    /// List what is accepted, and do nothing else
    #[arg(long, conflicts_with_all = ["case", "change", "reason", "until", "who"])]
    pub list: bool,
}

/// `regrade doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade schema`
#[derive(Debug, Args)]
pub struct Schema {
    /// Which format
    #[arg(value_enum, default_value = "suite")]
    pub what: SchemaOf,
}

/// Formats with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Suite files
    Suite,
    /// JSON reports
    Report,
    /// Tables of prices
    Prices,
}

/// `regrade completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `regrade baseline`
#[derive(Debug, Args)]
pub struct Baseline {
    /// What to do.
    #[command(subcommand)]
    pub action: BaselineAction,
}

/// What to do with stored runs.
#[derive(Debug, Subcommand)]
pub enum BaselineAction {
    /// List named baselines and the newest runs
    List {
        /// Output on standard output
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Show a run
    Show {
        /// Run id, unique prefix, baseline name, or `latest`
        #[arg(default_value = "latest")]
        run: String,
        /// Output on standard output
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Give a run a name; an existing name moves
    Promote {
        /// Run id, unique prefix, or `latest`
        run: String,
        /// The name
        name: String,
    },
    /// Forget a name; the run stays
    Drop {
        /// The name
        name: String,
    },
    /// Remove old runs; named ones stay
    Prune {
        /// Complete runs to keep of each suite, testbed and branch
        #[arg(long, default_value_t = 60, value_name = "N")]
        keep: u32,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Write runs as JSON Lines
    Export {
        /// Run ids or unique prefixes; all without
        runs: Vec<String>,
        /// File to write instead of standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Add runs from JSON Lines or from another database; what is here stays
    Import {
        /// File to read
        file: PathBuf,
    },
    /// Add all that other databases hold: the union that push and pull make
    Merge {
        /// Databases to read
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Share runs of the base branch: add them to a branch of a git remote, or to a folder
    Push(Push),
    /// Get what was pushed; without any yet it is no error
    Pull(Pull),
}

/// `regrade backend`
#[derive(Debug, Args)]
pub struct Backend {
    /// What to do.
    #[command(subcommand)]
    pub action: BackendAction,
}

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub enum BackendAction {
    /// Show, for every platform, the plugins that are here and which one is used, or what is missing
    List {
        /// Output on standard output
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Install a plugin from its pinned wheel, fetched by your own pip and verified
    // Its `--version` is the plugin's.
    #[command(disable_version_flag = true)]
    Install {
        /// Which plugin
        #[arg(value_parser = plugin_names())]
        name: String,
        /// Another version than the pinned one; its hash is not known beforehand
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// The Python whose pip fetches it
        #[arg(long, value_name = "PATH", default_value = "python3")]
        python: PathBuf,
    },
    /// Remove what `install` put there
    Remove {
        /// Which plugin
        #[arg(value_parser = plugin_names())]
        name: String,
    },
    /// Load a plugin in this process and say what it is (started by `list`)
    #[command(hide = true)]
    Describe {
        /// Its file
        path: PathBuf,
    },
}

/// `regrade baseline push`
#[derive(Debug, Args)]
pub struct Push {
    /// Git remote: a name, an address, or a path
    #[arg(long, value_name = "NAME", default_value = "origin")]
    pub remote: String,
    /// Its branch, which holds nothing else
    #[arg(long, value_name = "NAME", default_value = "regrade-baselines")]
    pub branch: String,
    /// Push to this folder instead, such as one on a shared file system or one that CI caches
    #[arg(long, value_name = "DIR", conflicts_with_all = ["remote", "branch"])]
    pub to: Option<PathBuf>,
    /// Push runs of this branch; repeat for more; by default of the remote's default branch and the base branch here
    #[arg(long, value_name = "BRANCH")]
    pub runs_of: Vec<String>,
    /// Push complete runs of every branch, those with uncommitted changes, and arms of paired sessions too
    #[arg(long, conflicts_with = "runs_of")]
    pub all: bool,
    /// Leave only this many runs of each suite, testbed and branch there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Only say what would be pushed
    #[arg(long)]
    pub dry_run: bool,
    /// How long to try again while others push
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    pub patience: Duration,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `regrade baseline pull`
#[derive(Debug, Args)]
pub struct Pull {
    /// Git remote: a name, an address, or a path
    #[arg(long, value_name = "NAME", default_value = "origin")]
    pub remote: String,
    /// Its branch
    #[arg(long, value_name = "NAME", default_value = "regrade-baselines")]
    pub branch: String,
    /// Pull from this folder instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["remote", "branch"])]
    pub from: Option<PathBuf>,
    /// Output on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

impl Cli {
    /// Parses the process's own command line; help, version and mistakes end the process here.
    #[must_use]
    pub fn of_process() -> Self {
        Self::parse()
    }
}

impl Completions {
    /// The shell's completion script.
    #[must_use]
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "regrade", &mut script);
        script
    }
}

fn backend_names() -> PossibleValuesParser {
    PossibleValuesParser::new(BACKENDS.iter().map(|backend| backend.name()))
}

fn plugin_names() -> PossibleValuesParser {
    PossibleValuesParser::new(PACKAGES.iter().map(|package| package.name))
}

fn renderer_names() -> PossibleValuesParser {
    PossibleValuesParser::new(RENDERERS.iter().map(|renderer| renderer.name()))
}

fn exit_codes() -> String {
    let lines = Exit::ALL.iter().map(|exit| format!("  {}  {}", exit.code(), exit.meaning()));
    std::iter::once("Exit codes:".to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}
