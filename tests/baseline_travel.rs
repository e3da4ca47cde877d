//! `regrade baseline push` and `pull` through the binary, against local remotes and folders: nothing is lost, nothing
//! that others must not be compared with is shared, nothing of the user's repository is touched.

mod store_fixture;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use regrade::domain::{Arm, ArmSide, Run, RunStatus, SessionId};
use regrade::store::Store;
use regrade::store::sqlite::SqliteStore;
use serde_json::Value as Json;
use store_fixture::{acceptance, at, launch, put_complete, run, run_id};
use support::{Place, Ran};
use tempfile::TempDir;

const BRANCH: &str = "regrade-baselines";
const FILE: &str = "regrade-baselines.sqlite";
const DB: &str = "baselines/regrade.sqlite";

/// A bare repository for several clones.
struct Remote {
    dir: TempDir,
}

impl Remote {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let remote = Self { dir };
        remote.git(&["init", "-q", "--bare", "-b", "main"]);
        remote
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().expect("UTF-8")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git").args(arguments).current_dir(self.dir.path()).output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A repository that knows this one as `origin`.
    fn clone(&self) -> Place {
        let place = Place::new();
        place.git(&["remote", "add", "origin", self.path()]);
        place
    }

    fn commits(&self) -> String {
        self.git(&["rev-list", "--count", BRANCH])
    }
}

/// The database of a place.
fn store(place: &Place) -> SqliteStore {
    SqliteStore::open(&place.file(DB)).expect("a database")
}

/// Stores complete runs of `main`, measured with nothing uncommitted.
fn put(place: &Place, runs: &[u64]) {
    for n in runs {
        put_complete(&mut store(place), &clean(*n), *n, 2);
    }
}

fn clean(n: u64) -> Run {
    Run { dirty: false, ..run(n) }
}

/// What a command with `--format json` printed.
fn json(place: &Place, arguments: &[&str]) -> Json {
    let ran = place.run(&[arguments, &["--format", "json"]].concat()).expect(0);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

fn push(place: &Place) -> Json {
    json(place, &["baseline", "push"])
}

fn pull(place: &Place) -> Json {
    json(place, &["baseline", "pull"])
}

/// All that is stored, as an export prints it.
fn all(place: &Place) -> String {
    place.run(&["baseline", "export"]).expect(0).stdout
}

fn waited(child: Child) -> Ran {
    child.wait_with_output().expect("it ran").into()
}

#[test]
fn what_is_pushed_arrives_whole() {
    let remote = Remote::new();
    let (one, two) = (remote.clone(), remote.clone());
    put(&one, &[1, 2]);
    store(&one).promote("v1", run_id(1), at(8)).expect("fit");
    store(&one).put_acceptance(&acceptance("quickstart", 1)).expect("kept");
    let pushed = push(&one);
    assert_eq!((&pushed["runs"], &pushed["launches"], &pushed["attempts"]), (&2.into(), &4.into(), &1.into()));
    assert_eq!(pushed["commit"], remote.git(&["rev-parse", BRANCH]));
    assert_eq!((&pushed["remote"], &pushed["branch"]), (&"origin".into(), &BRANCH.into()));

    let pulled = pull(&two);
    assert_eq!((&pulled["runs"], &pulled["names"][0], &pulled["acceptances"]), (&2.into(), &"v1".into(), &1.into()));
    assert_eq!(all(&two), all(&one));
    let again = pull(&two);
    assert_eq!((&again["changed"], &again["runs"], &again["known"]), (&false.into(), &0.into(), &4.into()));

    // What others pushed stays, and comes back; of two names the one that was given later counts.
    put(&two, &[3]);
    store(&two).promote("v1", run_id(3), at(9)).expect("fit");
    assert_eq!(push(&two)["runs"], 1);
    assert_eq!(pull(&one)["names"][0], "v1");
    assert_eq!(all(&two), all(&one));
    assert_eq!(remote.commits(), "1");
}

#[test]
fn a_second_push_of_the_same_changes_nothing() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[1]);
    let first = push(&place);
    let second = push(&place);
    assert_eq!((&first["changed"], &second["changed"]), (&true.into(), &false.into()));
    assert_eq!(first["commit"], second["commit"]);
    let text = place.run(&["baseline", "push"]).expect(0).stdout;
    assert!(text.contains("has it all already"), "{text}");
    put(&place, &[2]);
    assert_ne!(push(&place)["commit"], first["commit"]);
    assert_eq!(remote.commits(), "1", "the commit is replaced, not followed");
    assert_eq!(remote.git(&["ls-tree", "--name-only", BRANCH]), format!("README.md\n{FILE}"));
}

#[test]
fn the_branch_holds_one_consistent_file_that_can_be_used_as_it_is() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[1, 2, 3]);
    // A database in use: what was written last is still in its log.
    let open = store(&place);
    push(&place);
    drop(open);
    let shown = Command::new("git").args(["show", &format!("{BRANCH}:{FILE}")]).current_dir(remote.path()).output();
    let bytes = shown.expect("git runs").stdout;
    // Header fields of SQLite's file format: no log, and pages that can be given back.
    assert_eq!(bytes[18..20], [1, 1], "not in WAL mode");
    assert_eq!(bytes[64..68], [0, 0, 0, 1], "incremental vacuum");
    std::fs::write(place.file("copy.sqlite"), bytes).expect("written");
    let listed = place.run(&["baseline", "list", "--db", "copy.sqlite"]).expect(0).stdout;
    assert!(listed.contains(&run_id(3).to_string()[..8]), "{listed}");
}

#[test]
fn a_first_pull_finds_nothing_and_is_no_error() {
    let remote = Remote::new();
    let place = remote.clone();
    let text = place.run(&["baseline", "pull"]).expect(0).stdout;
    assert!(text.contains("no baselines") && text.contains("baseline push"), "{text}");
    assert_eq!(pull(&place)["commit"], Json::Null);
    assert!(!place.file(DB).exists());
    let text = place.run(&["baseline", "pull", "--from", "absent/folder"]).expect(0).stdout;
    assert!(text.contains("no baselines"), "{text}");
}

#[test]
fn what_cannot_be_reached_is_six_with_a_remedy() {
    let place = Place::new();
    put(&place, &[1]);
    for verb in ["push", "pull"] {
        let ran = place.run(&["baseline", verb]).expect(6);
        assert!(ran.stderr.contains("`origin`") && ran.stderr.contains("git remote add"), "{}", ran.stderr);
    }
    place.git(&["remote", "add", "origin", "/nowhere/at-all.git"]);
    let ran = place.run(&["baseline", "pull"]).expect(6);
    assert!(ran.stderr.contains("cannot be read"), "{}", ran.stderr);
    place.run(&["baseline", "pull", "--branch", "two..dots"]).expect(2);
    place.run(&["baseline", "push", "--db", "absent.sqlite"]).expect(2);

    let outside = TempDir::new().expect("a temporary folder");
    let mut command = place.command(&["baseline", "pull"]);
    let ran: Ran = command.current_dir(outside.path()).output().expect("it starts").into();
    assert!(ran.expect(6).stderr.contains("--from"));
}

#[test]
fn only_what_others_may_be_compared_with_is_pushed() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[1]);
    let arm = Arm { session: SessionId(run_id(99).0), side: ArmSide::Head };
    let others = [
        Run { branch: Some("feature".to_owned()), ..clean(2) },
        Run { dirty: true, ..clean(3) },
        Run { arm: Some(arm), ..clean(4) },
        Run { synthetic: Some("--inject '*=30%'".to_owned()), ..clean(5) },
        Run { debug_build: true, ..clean(6) },
        Run { branch: Some("release".to_owned()), ..clean(7) },
    ];
    for (n, other) in (2..).zip(&others) {
        put_complete(&mut store(&place), other, n, 1);
    }
    store(&place).begin_run(&clean(8)).expect("begun");
    store(&place).put_launch(run_id(8), &launch(8, 0)).expect("put");
    store(&place).finish_run(run_id(8), RunStatus::Interrupted, at(9)).expect("finished");
    // Whoever names a run says that it may be compared with.
    store(&place).promote("v1", run_id(7), at(9)).expect("fit");

    let dry = json(&place, &["baseline", "push", "--dry-run"]);
    assert_eq!((&dry["runs"], &dry["changed"], &dry["commit"]), (&2.into(), &true.into(), &Json::Null));
    assert!(remote.git(&["branch", "--list"]).is_empty(), "a dry run changes nothing");
    let text = place.run(&["baseline", "push"]).expect(0).stdout;
    assert!(text.contains("pushed 2 runs") && text.contains("3 runs stay here"), "{text}");
    assert!(text.contains("3 runs stay here: 1 not complete, 1 synthetic, 1 of a debug build"), "{text}");
    let again = push(&place);
    assert_eq!(again["left_out"]["other_branch"], 1);
    assert_eq!(json(&place, &["baseline", "push", "--runs-of", "feature"])["runs"], 1);
    assert_eq!(json(&place, &["baseline", "push", "--all"])["runs"], 2);
    let other = remote.clone();
    assert_eq!(pull(&other)["runs"], 5);
    for n in [5, 6, 8] {
        assert!(!all(&other).contains(&run_id(n).to_string()), "run {n} must never be pushed");
    }
}

#[test]
fn a_pull_request_from_a_forks_main_is_not_main() {
    let remote = Remote::new();
    let place = remote.clone();
    place.script(&["alpha"]);
    let in_ci = |arguments: &[&str]| -> Ran {
        let mut command = place.command(arguments);
        command.env("GITHUB_HEAD_REF", "main").env("GITHUB_BASE_REF", "main").output().expect("it starts").into()
    };
    in_ci(&["run", "suite.toml"]).expect(0);
    let ran = in_ci(&["baseline", "push"]).expect(0);
    assert!(ran.stdout.contains("nothing to push") && ran.stdout.contains("1 of another branch"), "{}", ran.stdout);
    assert!(remote.git(&["branch", "--list"]).is_empty());
    // What is measured on main itself is pushed.
    place.run(&["run", "suite.toml"]).expect(0);
    assert_eq!(push(&place)["runs"], 1);
}

#[test]
fn a_detached_shallow_clone_pushes_and_pulls() {
    let remote = Remote::new();
    let one = remote.clone();
    one.write("file", "2");
    one.commit("second");
    one.git(&["push", "-q", "origin", "main"]);
    let head = one.git_says(&["rev-parse", "HEAD"]);
    put(&one, &[1]);
    push(&one);

    let ci = Place::new();
    ci.git(&["remote", "add", "origin", &format!("file://{}", remote.path())]);
    ci.git(&["fetch", "-q", "--depth=1", "--no-tags", "origin", &head]);
    ci.git(&["checkout", "-q", "--detach", "FETCH_HEAD"]);
    ci.git(&["branch", "-D", "-q", "main"]);
    let state = untouched(&ci);
    assert_eq!(pull(&ci)["runs"], 1);
    // Nothing but the commit says of which branch these are.
    put_complete(&mut store(&ci), &Run { branch: None, commit: Some(head), ..clean(2) }, 2, 1);
    put_complete(&mut store(&ci), &Run { branch: None, commit: Some("ab".repeat(20)), ..clean(3) }, 3, 1);
    let pushed = push(&ci);
    assert_eq!((&pushed["runs"], &pushed["left_out"]["other_branch"]), (&1.into(), &1.into()));
    assert_eq!(untouched(&ci), state);
    assert_eq!(pull(&one)["runs"], 1);
}

/// Everything of a repository that a user could see change.
fn untouched(place: &Place) -> Vec<String> {
    let mut seen: Vec<String> = [
        &["for-each-ref"][..],
        &["symbolic-ref", "-q", "HEAD"],
        &["rev-parse", "HEAD", "--is-shallow-repository"],
        &["status", "--porcelain", "--untracked-files=no"],
        &["count-objects", "-v"],
        &["stash", "list"],
        &["config", "--local", "--list"],
        &["reflog"],
        &["ls-files", "--stage"],
    ]
    .iter()
    .map(|arguments| place.git_says(arguments))
    .collect();
    for file in ["index", "FETCH_HEAD", "shallow", "HEAD", "packed-refs", "logs/HEAD"] {
        seen.push(format!("{file}: {:?}", std::fs::read(place.file(".git").join(file)).ok()));
    }
    seen
}

#[test]
fn the_users_repository_stays_as_it_is() {
    let remote = Remote::new();
    let place = remote.clone();
    place.write(".gitignore", "baselines/\n");
    place.write("tracked", "as committed");
    place.git(&["add", "."]);
    place.git(&["commit", "-q", "-m", "files"]);
    place.git(&["push", "-q", "-u", "origin", "main"]);
    place.write("tracked", "staged");
    place.git(&["add", "."]);
    place.write("tracked", "changed again");
    place.write(".git/hooks/pre-push", "#!/bin/sh\nexit 1\n");
    let hook = place.file(".git/hooks/pre-push");
    std::fs::set_permissions(hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("an executable hook");
    // Settings that would write, fetch more, or ask.
    for (name, value) in [("fetch.prune", "true"), ("push.followTags", "true"), ("remote.origin.mirror", "true")] {
        place.git(&["config", name, value]);
    }
    put(&place, &[1]);
    let state = untouched(&place);
    push(&place);
    assert_eq!(pull(&place)["changed"], false);
    assert_eq!(untouched(&place), state);
    assert_eq!(std::fs::read_to_string(place.file("tracked")).expect("a file"), "changed again");
    assert_eq!(remote.git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main\nrefs/heads/regrade-baselines");
}

#[test]
fn what_is_not_ours_is_neither_read_nor_overwritten() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[1]);
    place.git(&["push", "-q", "origin", "main"]);
    let refused = |words: &str, branch: &str| {
        let before = remote.git(&["rev-parse", branch]);
        for verb in ["push", "pull"] {
            let ran = place.run(&["baseline", verb, "--branch", branch]).expect(6);
            assert!(ran.stderr.contains(words) && ran.stderr.contains("--branch"), "{}", ran.stderr);
        }
        assert_eq!(remote.git(&["rev-parse", branch]), before);
    };
    refused("holds no", "main");
    place.git(&["checkout", "-q", "--orphan", "site"]);
    place.write("index.html", "<p>");
    place.git(&["add", "index.html"]);
    place.git(&["commit", "-q", "-m", "site"]);
    place.git(&["push", "-q", "origin", "site"]);
    refused("holds `index.html`", "site");
    place.git(&["mv", "index.html", FILE]);
    place.git(&["commit", "-q", "--amend", "-m", "site"]);
    place.git(&["push", "-q", "--force", "origin", "site"]);
    refused("no database", "site");
    place.git(&["commit", "-q", "--allow-empty", "-m", "more"]);
    place.git(&["push", "-q", "origin", "site"]);
    refused("a history", "site");
}

#[test]
fn a_newer_schema_is_refused_and_an_older_one_is_migrated() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[3]);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/databases/v1.sqlite");
    let folder = place.file("shared");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::copy(&fixture, folder.join(FILE)).expect("a copy");
    let pulled = json(&place, &["baseline", "pull", "--from", "shared"]);
    assert_eq!((&pulled["runs"], &pulled["names"][0]), (&2.into(), &"release".into()));
    assert_eq!(std::fs::read(folder.join(FILE)).expect("a file"), std::fs::read(&fixture).expect("a file"));

    // What only reads a database migrates it as well, or an older one could not even be listed.
    std::fs::copy(&fixture, place.file("older.sqlite")).expect("a copy");
    place.run(&["baseline", "list", "--db", "older.sqlite"]).expect(0);
    assert!(place.file("older.sqlite.v1.bak").is_file());

    let mut bytes = std::fs::read(&fixture).expect("a file");
    bytes[60..64].copy_from_slice(&999_i32.to_be_bytes());
    std::fs::write(folder.join(FILE), &bytes).expect("written");
    for arguments in [["pull", "--from"], ["push", "--to"]] {
        let ran = place.run(&[&["baseline"], &arguments[..], &["shared"]].concat()).expect(6);
        assert!(ran.stderr.contains("schema version 999") && ran.stderr.contains("shared"), "{}", ran.stderr);
    }
    assert_eq!(std::fs::read(folder.join(FILE)).expect("a file"), bytes);
}

#[test]
fn a_push_that_is_overtaken_merges_and_tries_again() {
    let remote = Remote::new();
    let (slow, fast) = (remote.clone(), remote.clone());
    put(&slow, &[1]);
    put(&fast, &[2]);
    // Before the slow one's push arrives, the fast one pushes: once.
    let real = which_git();
    let binary = env!("CARGO_BIN_EXE_regrade");
    let shim = format!(
        "#!/bin/sh\nif [ \"$1\" = push ] && mkdir overtaken 2>/dev/null; then\n\
         (cd '{}' && unset GIT_OBJECT_DIRECTORY GIT_CONFIG_COUNT && PATH='{}' '{binary}' -q baseline push >&2) || exit 9\n\
         fi\nexec '{}' \"$@\"\n",
        fast.path().display(),
        std::env::var("PATH").expect("a path"),
        real.display()
    );
    let path = with_git(&slow, &shim);
    let ran: Ran = slow.command(&["baseline", "push"]).env("PATH", path).output().expect("it starts").into();
    let ran = ran.expect(0);
    assert!(ran.stderr.contains("attempt 1 came too late"), "{}", ran.stderr);
    assert!(ran.stdout.contains("2 attempts"), "{}", ran.stdout);
    assert_eq!(remote.commits(), "1");
    assert_eq!(pull(&remote.clone())["runs"], 2);
}

#[test]
fn a_push_that_is_always_overtaken_gives_up_and_says_so() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[1]);
    push(&place);
    put(&place, &[2]);
    // Each time another commit with the same content takes the branch first.
    let shim = format!(
        "#!/bin/sh\ngit={}\nif [ \"$1\" = push ]; then\n(unset GIT_OBJECT_DIRECTORY GIT_CONFIG_COUNT; cd '{}' && \
         \"$git\" update-ref refs/heads/{BRANCH} $(echo $$ | \"$git\" -c user.name=t -c user.email=t@t commit-tree \
         {BRANCH}^{{tree}})) >&2\nfi\nexec \"$git\" \"$@\"\n",
        which_git().display(),
        remote.path()
    );
    let path = with_git(&place, &shim);
    let mut command = place.command(&["baseline", "push", "--patience", "1s"]);
    let ran: Ran = command.env("PATH", path).output().expect("it starts").into();
    let ran = ran.expect(6);
    assert!(ran.stderr.contains("--patience") && ran.stderr.contains("nothing is lost"), "{}", ran.stderr);
    assert_eq!(pull(&remote.clone())["runs"], 1);
    assert_eq!(push(&place)["runs"], 1);
}

#[test]
fn a_remote_that_refuses_is_believed() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[1]);
    let hook = remote.dir.path().join("hooks/update");
    std::fs::write(&hook, "#!/bin/sh\necho no branches today >&2\nexit 1\n").expect("written");
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("an executable hook");
    let ran = place.run(&["baseline", "push"]).expect(6);
    assert!(ran.stderr.contains("no branches today") && ran.stderr.contains("protected"), "{}", ran.stderr);
}

fn which_git() -> PathBuf {
    let path = std::env::var_os("PATH").expect("a path");
    std::env::split_paths(&path).map(|folder| folder.join("git")).find(|git| git.is_file()).expect("git is installed")
}

/// A search path on which `git` is a script.
fn with_git(place: &Place, script: &str) -> std::ffi::OsString {
    place.write("bin/git", script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.file("bin/git"), mode).expect("an executable script");
    let path = std::env::var_os("PATH").expect("a path");
    std::env::join_paths(std::iter::once(place.file("bin")).chain(std::env::split_paths(&path))).expect("a path")
}

const CROWD: u64 = 16;

/// Starts a push in each place at once; all must end well.
fn push_at_once(places: &[Place], more: &[&str]) {
    let children: Vec<Child> = places
        .iter()
        .map(|place| {
            // As patient as a busy machine needs: what counts is that nothing is lost.
            let mut command = place.command(&[&["baseline", "push", "--patience", "20m"], more].concat());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
        })
        .collect();
    for child in children {
        waited(child).expect(0);
    }
}

#[test]
fn sixteen_pushes_at_once_lose_no_run() {
    let remote = Remote::new();
    let places: Vec<Place> = (1..=CROWD).map(|_| remote.clone()).collect();
    for (n, place) in (1..).zip(&places) {
        put(place, &[n]);
    }
    push_at_once(&places, &[]);
    let reader = remote.clone();
    assert_eq!(pull(&reader)["runs"], CROWD);
    for n in 1..=CROWD {
        assert_eq!(store(&reader).launch_count(run_id(n)).expect("it is here"), 2);
    }
    assert_eq!(remote.commits(), "1");
}

#[test]
fn sixteen_pushes_to_a_folder_lose_no_run() {
    let shared = TempDir::new().expect("a temporary folder");
    let folder = shared.path().join("not/there/yet");
    let folder = folder.to_str().expect("UTF-8");
    let places: Vec<Place> = (1..=CROWD).map(|_| Place::new()).collect();
    for (n, place) in (1..).zip(&places) {
        put(place, &[n]);
    }
    push_at_once(&places, &["--to", folder]);
    let reader = Place::new();
    let pulled = json(&reader, &["baseline", "pull", "--from", folder]);
    assert_eq!((&pulled["runs"], &pulled["folder"]), (&CROWD.into(), &folder.into()));
    let left: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left.len(), 2, "the database and the lock: {left:?}");
}

#[test]
fn a_folder_with_a_database_in_use_is_refused() {
    let place = Place::new();
    put(&place, &[1]);
    let used = SqliteStore::open(&place.file("shared").join(FILE)).expect("a database");
    let ran = place.run(&["baseline", "push", "--to", "shared"]).expect(6);
    assert!(ran.stderr.contains("in use"), "{}", ran.stderr);
    drop(used);
    assert_eq!(json(&place, &["baseline", "push", "--to", "shared"])["runs"], 1);
}

#[test]
fn keep_bounds_what_is_there() {
    let remote = Remote::new();
    let place = remote.clone();
    put(&place, &[1, 2, 3, 4]);
    push(&place);
    let text = place.run(&["baseline", "push", "--keep", "2"]).expect(0).stdout;
    assert!(text.contains("2 older runs"), "{text}");
    assert_eq!(pull(&remote.clone())["runs"], 2);
    assert_eq!(json(&place, &["baseline", "push", "--keep", "2"])["changed"], false);
}

#[test]
fn credentials_are_never_shown() {
    let place = Place::new();
    put(&place, &[1]);
    // Nobody listens there.
    let url = "http://ada:hunter2222@127.0.0.1:9/x.git";
    place.git(&["remote", "add", "origin", url]);
    for arguments in [&["push"][..], &["pull"], &["push", "--remote", url], &["pull", "--remote", url]] {
        let ran = place.run(&[&["baseline"], arguments].concat()).expect(6);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains("hunter2222") && !said.contains("ada"), "{said}");
        assert!(said.contains("127.0.0.1:9"), "{said}");
    }
}

#[test]
fn merge_is_the_union_of_databases() {
    let (one, two) = (Place::new(), Place::new());
    put(&one, &[1, 2]);
    put(&two, &[2, 3]);
    let database = two.file(DB).display().to_string();
    let text = one.run(&["baseline", "merge", &database, &database]).expect(0).stdout;
    assert!(text.contains("imported 1 run and 2 launches; 2 launches known"), "{text}");
    assert!(text.contains("imported 0 runs and 0 launches; 4 launches known"), "{text}");
    one.write("text.jsonl", &all(&two));
    let ran = one.run(&["baseline", "merge", "text.jsonl"]).expect(6);
    assert!(ran.stderr.contains("baseline import text.jsonl"), "{}", ran.stderr);
}
