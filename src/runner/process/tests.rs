//! Small real processes that end in every way there is.

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn shell(script: &str, limits: Limits<'_>) -> Finished {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    run(command, limits, &AtomicBool::new(false)).expect("sh runs")
}

fn unlimited() -> Limits<'static> {
    Limits { timeout: LONG, memory: None, output: None }
}

/// Whether a process is there and no zombie.
fn alive(pid: &str) -> bool {
    hardware::process(pid.trim().parse().expect("the script printed a process id")).is_some_and(|p| p.state != 'Z')
}

#[test]
fn an_exit_code_comes_back_with_both_streams() {
    let finished = shell("echo out; echo err >&2; exit 7", unlimited());
    assert_eq!(finished.ended, Ended::Exited(7));
    assert_eq!(finished.log, "out\nerr\n");
}

#[test]
fn standard_input_is_empty() {
    assert_eq!(shell("cat; echo end", unlimited()).log, "end\n");
}

#[test]
fn signals_are_told_from_exits() {
    assert_eq!(shell("kill -ABRT $$", unlimited()).ended, Ended::Signalled(6));
    assert_eq!(shell("kill -SEGV $$", unlimited()).ended, Ended::Signalled(11));
    // Nobody was killed for want of memory, so this is a plain signal.
    assert_eq!(shell("kill -KILL $$", unlimited()).ended, Ended::Signalled(9));
}

#[test]
fn a_program_that_is_not_there_is_an_error_with_its_name() {
    let error = run(Command::new("no-such-program"), unlimited(), &AtomicBool::new(false)).expect_err("absent");
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

#[test]
fn a_hang_is_ended_at_the_deadline() {
    let limits = Limits { timeout: Duration::from_millis(300), memory: None, output: None };
    let finished = shell("echo started; sleep 60", limits);
    assert_eq!(finished.ended, Ended::TimedOut);
    assert_eq!(finished.log, "started\n");
    assert!(finished.wall >= limits.timeout && finished.wall < LONG, "{:?}", finished.wall);
}

#[test]
fn a_hang_that_ignores_sigterm_is_killed() {
    let limits = Limits { timeout: Duration::from_millis(100), memory: None, output: None };
    let finished = shell("trap '' TERM; echo $$; while :; do sleep 1; done", limits);
    assert_eq!(finished.ended, Ended::TimedOut);
    assert!(!alive(&finished.log));
    assert!(finished.wall < LONG);
}

#[test]
#[cfg(target_os = "linux")]
fn a_memory_hog_is_ended_at_the_limit() {
    let limits = Limits { timeout: LONG, memory: Some(64 << 20), output: None };
    // `tail` keeps the last line, which has no end. The hog is a grandchild: the group counts, not the shell.
    let finished = shell("head -c 4000000000 /dev/zero | tail -n 1 | wc -c; echo survived", limits);
    let Ended::OverMemory { peak } = finished.ended else { panic!("{finished:?}") };
    assert!(peak > 64 << 20, "{peak}");
    assert_eq!(finished.peak_rss, Some(peak));
    assert!(!finished.log.contains("survived"));
}

#[test]
#[cfg(target_os = "linux")]
fn memory_below_the_limit_is_reported() {
    let limits = Limits { timeout: LONG, memory: Some(4 << 30), output: None };
    let finished =
        shell("head -c 32000000 /dev/zero | { tail -c 32000000; sleep 0.5; } | { sleep 0.3; wc -c; }", limits);
    assert_eq!(finished.ended, Ended::Exited(0));
    assert!(finished.peak_rss.expect("it ran long enough") > 16 << 20, "{finished:?}");
}

#[test]
fn a_grandchild_left_behind_is_killed_and_not_waited_for() {
    let finished = shell("sleep 60 & echo $!", unlimited());
    assert_eq!(finished.ended, Ended::Exited(0));
    assert!(finished.wall < LONG);
    // The kernel may take a moment to carry the signal out.
    let deadline = Instant::now() + LONG;
    while alive(&finished.log) {
        assert!(Instant::now() < deadline, "the grandchild lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_grandchild_that_left_the_group_cannot_hang_us() {
    let start = Instant::now();
    // Where setsid is missing the script ends at once, which proves nothing and fails nothing.
    let finished = shell("command -v setsid >/dev/null || exit 0; setsid sleep 40 & echo $!", unlimited());
    assert_eq!(finished.ended, Ended::Exited(0));
    assert!(start.elapsed() < LONG, "it waited for the sleep");
    if let Ok(pid) = finished.log.trim().parse::<i32>() {
        let pid = Pid::from_raw(pid).expect("not zero");
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

#[test]
fn a_flood_is_cut_in_the_middle() {
    let finished = shell("echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last", unlimited());
    assert_eq!(finished.ended, Ended::Exited(0));
    assert!(finished.log.starts_with("first\nxxx"));
    assert!(finished.log.ends_with("xxx\nlast\n"));
    let cut = 50_000_000 + "first\n\nlast\n".len() - HEAD - TAIL;
    assert!(finished.log.contains(&format!("[… {cut} bytes cut …]")));
    assert!(finished.log.len() < HEAD + TAIL + 100);
}

#[test]
fn cancelling_ends_it() {
    let cancel = AtomicBool::new(false);
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 60"]);
    let finished = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            cancel.store(true, Ordering::Relaxed);
        });
        run(command, unlimited(), &cancel).expect("sh runs")
    });
    assert_eq!(finished.ended, Ended::Cancelled);
    assert!(finished.wall < LONG);
}

#[test]
#[cfg(target_os = "linux")]
fn processor_time_of_waited_for_descendants_is_counted() {
    // Both the shell's own loop and the loop of a child that it waits for.
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let finished = shell(&format!("sh -c '{busy}'"), unlimited());
    let twice = shell(&format!("{busy}; sh -c '{busy}'"), unlimited());
    let user = |finished: &Finished| finished.user_s + finished.system_s;
    assert!(user(&finished) > 0.0);
    assert!(user(&twice) > user(&finished), "{twice:?} {finished:?}");
    assert!(user(&finished) <= finished.wall.as_secs_f64() + 0.05);
}

#[test]
fn a_short_log_is_kept_whole_in_any_portions() {
    let text: Vec<u8> = (0..HEAD + TAIL).map(|i| b'a' + (i % 26) as u8).collect();
    for portion in [1, 1000, HEAD, HEAD + TAIL] {
        let mut log = Log::default();
        text.chunks(portion).for_each(|chunk| log.push(chunk));
        assert_eq!(log.text().as_bytes(), text);
    }
}

#[test]
fn a_flood_into_the_watched_file_is_ended_at_the_limit() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let script = format!("exec cat /dev/zero > {}", file.path().display());
    let limits = Limits { timeout: LONG, memory: None, output: Some((file.as_file(), 1 << 20)) };
    assert_eq!(shell(&script, limits).ended, Ended::OverOutput);
}
