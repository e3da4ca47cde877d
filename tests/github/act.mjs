// Runs the shipped workflows with `act` on this machine against the fake behind Prism: what is skipped for whom, that no
// job needs more than its permissions, what a pull request is told. act.sh says what this needs.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import YAML from 'yaml';
import { serve } from './serve.mjs';
import { SHA } from './world.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, '../..');
const regrade = process.env.REGRADE_BIN;
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'regrade-act-'));
const at = (...parts) => path.join(work, ...parts);
const write = (file, text, mode = 0o644) => {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text, { mode });
};

let server;
const sha = {};
const git = (folder, ...words) => execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.invalid', '-c', 'commit.gpgsign=false', ...words], { cwd: folder, encoding: 'utf8' }).trim();

/** A repository with these workflows, and a program that is measured in seconds: `work.h` says how much it does. */
function repository() {
  const tree = at('tree');
  const demo = path.join(root, 'tests/fixtures/demo');
  write(path.join(tree, '.gitignore'), 'bench\n/reports\n/baselines\n');
  fs.cpSync(path.join(demo, 'bench.c'), path.join(tree, 'bench.c'));
  const suite = fs.readFileSync(path.join(demo, 'suite.toml'), 'utf8').replace('launches = 3', 'launches = 3\nbudget = "20s"');
  write(path.join(tree, 'suites/quickstart.toml'), suite);
  fs.cpSync(path.join(root, '.github'), path.join(tree, '.github'), { recursive: true });
  fs.cpSync(path.join(root, 'action.yml'), path.join(tree, 'action.yml'));
  git(work, 'init', '-q', '-b', 'main', tree);
  // The workflows of `regrade init` beside those of this repository; the suite is there already.
  execFileSync(regrade, ['init', '--name', 'quickstart'], { cwd: tree });
  const commit = (amount) => {
    write(path.join(tree, 'work.h'), `#define WORK ${amount}\n`);
    git(tree, 'add', '--all');
    git(tree, 'commit', '-q', '-m', `work ${amount}`);
    return git(tree, 'rev-parse', 'HEAD');
  };
  sha.main = commit(100);
  git(tree, 'checkout', '-q', '-b', 'faster-softmax');
  sha.head = commit(160);
  git(tree, 'checkout', '-q', '-b', 'tiles', 'main');
  sha.fork = commit(161);
  git(tree, 'checkout', '-q', 'main');
  git(work, 'clone', '-q', '--bare', tree, at('origin.git'));
  git(at('origin.git'), 'update-ref', 'refs/pull/7/head', sha.head);
  git(at('origin.git'), 'update-ref', 'refs/pull/8/head', sha.fork);
  git(at('origin.git'), 'branch', '-q', '-D', 'tiles');
  git(at('origin.git'), 'config', 'uploadpack.allowAnySHA1InWant', 'true');
}

/** The fake learns the commits of the real repository. */
function acquaint() {
  const { fake } = server;
  // With the suite that reports are judged by.
  const files = new Map(fake.trees.get(fake.commits.get(fake.refs['refs/heads/main']).tree));
  const suite = 'suites/quickstart.toml';
  files.set(suite, { mode: '100644', sha: fake.putBlob(fs.readFileSync(at('tree', suite))) });
  const tree = fake.putTree(files);
  fake.commits.set(sha.main, { tree, parents: [], message: 'main' });
  for (const name of ['head', 'fork']) fake.commits.set(sha[name], { tree, parents: [sha.main], message: name });
  fake.refs['refs/heads/main'] = sha.main;
  fake.pulls[7].sha = fake.runs[7001].sha = sha.head;
  fake.pulls[8].sha = fake.runs[8001].sha = sha.fork;
}

/** An event with the commits of the real repository in place of the world's. */
function event(name, change = () => {}) {
  const file = path.join(here, 'events', `${name}.json`);
  const payload = JSON.parse(fs.readFileSync(file, 'utf8'));
  if (payload.pull_request) {
    payload.pull_request.head.sha = sha[payload.number === 8 ? 'fork' : 'head'];
    payload.pull_request.base.sha = sha.main;
  }
  if (payload.workflow_run) payload.workflow_run.head_sha = sha[payload.workflow_run.id === 7001 ? 'head' : 'fork'];
  if (payload.inputs) payload.inputs.sha = sha.fork;
  change(payload);
  const target = at('events', `${name}-${Math.random().toString(36).slice(2)}.json`);
  write(target, JSON.stringify(payload));
  return target;
}

/** A comment that was just made: the event, and what the API knows of it; `meanwhile` is what it says by then. */
function comment(name, meanwhile) {
  const text = (body) => body.replaceAll(SHA.fork, sha.fork);
  const { fake } = server;
  return event(name, ({ comment, issue }) => {
    comment.body = text(comment.body);
    fake.comments = fake.comments.filter(({ id }) => id !== comment.id);
    fake.comments.push({ id: comment.id, issue: issue.number, login: comment.user.login, body: meanwhile ?? comment.body });
  });
}

/** What a job of a workflow may do, as permissions of a token. */
function permissions(workflow, job) {
  const { jobs } = YAML.parse(fs.readFileSync(at('tree/.github/workflows', workflow), 'utf8'));
  return Object.fromEntries(Object.entries(jobs[job].permissions).map(([scope, access]) => [scope.replaceAll('-', '_'), access]));
}

/** Runs a workflow; which jobs ran, and how each ended. */
async function act(trigger, workflow, file, { token = 'ghs_read', vars = {}, run = '1' } = {}) {
  const tree = fs.mkdtempSync(at('run-'));
  git(work, 'clone', '-q', '--branch', 'main', at('origin.git'), tree);
  git(tree, 'remote', 'set-url', 'origin', 'https://github.com/octo-org/octo-repo.git');
  const artifacts = at('artifacts', `${workflow}-${run}`);
  // What it calls may use more actions than it does itself.
  const text = ['action.yml', `.github/workflows/${workflow}`, '.github/workflows/reviewed.yml'].map((name) => fs.readFileSync(path.join(tree, name), 'utf8')).join('');
  const pinned = text.matchAll(/uses: (actions\/([\w-]+)@[0-9a-f]{40})/g);
  const replaced = [...new Set([...pinned].map(([, uses, name]) => `${uses}=${path.join(here, 'actions', name)}`))];
  const settings = { ORIGIN: at('origin.git'), ARTIFACTS: artifacts, REGRADE_BIN: regrade, REGRADE_TRUST_DEBUG_BUILD: '1', REGRADE_CACHE: at('cache'), GITHUB_API_URL: server.url, GIT_ALLOW_PROTOCOL: 'file' };
  const words = [
    trigger, '-W', `.github/workflows/${workflow}`, '-e', file, '--json',
    '-P', 'ubuntu-24.04=-self-hosted', '-P', 'self-hosted=-self-hosted',
    '--action-cache-path', at('act-cache', path.basename(tree)), '--no-cache-server', '--no-skip-checkout', '--defaultbranch', 'main',
    ...replaced.flatMap((pair) => ['--local-repository', pair]),
    ...Object.entries(settings).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    ...Object.entries(vars).flatMap(([name, value]) => ['--var', `${name}=${value}`]),
    '-s', `GITHUB_TOKEN=${token}`,
  ];
  const { code, output } = await new Promise((resolve) =>
    execFile(path.join(here, '.venv/bin/act'), words, { cwd: tree, env: { ...process.env, PATH: `${at('bin')}:${process.env.PATH}`, GITHUB_RUN_ID: run }, maxBuffer: 1 << 28, timeout: 240_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? (error.code ?? -1) : 0, output: stdout + stderr })),
  );
  const jobs = {};
  let log = '';
  for (const line of output.split('\n')) {
    try {
      const entry = JSON.parse(line);
      if (entry.jobID && entry.jobResult) jobs[entry.jobID] = entry.jobResult;
      log += `${entry.job ?? ''}: ${entry.msg}\n`;
    } catch {
      log += `${line}\n`;
    }
  }
  if (process.env.REGRADE_ACT_LOG) fs.appendFileSync(process.env.REGRADE_ACT_LOG, `\n=== ${trigger} ${workflow}\n${log}`);
  return { code, jobs, text: log, artifacts };
}

before(async () => {
  server = await serve();
  repository();
  // `version: source` builds with cargo, and what `regrade init` writes installs with it; here the program that is there
  // already comes out of both.
  const cargo = ['#!/bin/sh', 'while [ $# -gt 0 ]; do case $1 in --target-dir) to=$2/release;; --root) to=$2/bin;; esac; shift; done', 'mkdir -p "$to" && cp "$REGRADE_BIN" "$to/regrade"', ''];
  write(at('bin/cargo'), cargo.join('\n'), 0o755);
});
after(async () => {
  await server.close();
  fs.rmSync(work, { recursive: true, force: true });
});
beforeEach(() => {
  server.fake.reset();
  acquaint();
});


const BOT = 'github-actions[bot]';
const token = (jobs) => {
  const name = `ghs_${Math.random().toString(36).slice(2)}`;
  server.fake.tokens[name] = Object.assign({}, ...jobs.map(([workflow, job]) => permissions(workflow, job)));
  return name;
};
const zip = (folder) => {
  const file = `${folder}.zip`;
  execFileSync('python3', ['-m', 'zipfile', '-c', file, path.join(folder, 'report.json')]);
  return fs.readFileSync(file);
};
/** What a pull request was told, by the workflow's own account. */
const told = (pull) => {
  const { comments, checks, statuses } = server.fake;
  const commit = server.fake.pulls[pull].sha;
  return {
    comments: comments.filter(({ issue, login }) => issue === pull && login === BOT).length,
    checks: [...new Set(checks.filter(({ head_sha }) => head_sha === commit).map(({ conclusion }) => conclusion))],
    statuses: [...new Set(statuses.filter((status) => status.sha === commit).map(({ state }) => state))],
  };
};
const writes = () => server.fake.log.filter(({ method }) => method !== 'GET');
/** Nothing went against the description, and nothing was refused: the job's permissions are enough. */
const nothingRefused = (text) => {
  const odd = server.fake.log.filter(({ violation, status }) => violation || status === 401 || status === 403);
  assert.deepEqual(odd.map(({ method, path: at, status, violation }) => [method, at, status, violation]), [], text);
};

const reports = {};
test('a pull request of a branch is measured with read permissions', async () => {
  const bench = await act('pull_request', 'bench-pr.yml', event('pull_request.opened'), { run: '7001', token: token([['bench-pr.yml', 'cpu']]) });
  assert.deepEqual(bench.jobs, { cpu: 'failure' }, bench.text);
  const report = path.join(bench.artifacts, 'regrade-report', 'report.json');
  assert.ok(fs.existsSync(report), bench.text);
  reports[7] = path.dirname(report);
  assert.deepEqual(writes(), []);
});

test('so is one of a fork', async () => {
  const bench = await act('pull_request', 'bench-pr.yml', event('pull_request.fork'), { run: '8001', token: token([['bench-pr.yml', 'cpu']]) });
  assert.deepEqual(bench.jobs, { cpu: 'failure' }, bench.text);
  reports[8] = path.join(bench.artifacts, 'regrade-report');
  assert.deepEqual(writes(), []);
});

for (const [pull, run, name] of [[7, 7001, 'workflow_run'], [8, 8001, 'workflow_run.fork']]) {
  test(`the poster tells pull request ${pull}, twice the same comment, with its permissions and no more`, async () => {
    // A run that was started again keeps what its first attempt left.
    server.fake.artifacts.push({ id: 2, run, name: 'regrade-report', bytes: zip(reports[pull]) }, { id: 1, run, name: 'regrade-report', bytes: Buffer.from('of the first attempt') });
    const file = event(name);
    for (let time = 0; time < 2; time++) {
      const post = await act('workflow_run', 'post.yml', file, { token: token([['post.yml', 'post']]), run: `${run}${time}` });
      assert.deepEqual(post.jobs, { build: 'success', post: 'success' }, post.text);
      nothingRefused(post.text);
      const { comments, checks, statuses } = told(pull);
      assert.equal(comments, 1, post.text);
      // These are slower; a fork's that were not would wait for a maintainer.
      assert.deepEqual([checks, statuses], [['failure'], ['failure']], post.text);
    }
    assert.equal(server.fake.comments.filter(({ issue, login }) => issue !== pull && login === BOT).length, 0);
    const downloads = server.fake.log.filter(({ path: at }) => at.startsWith('/__download'));
    assert.ok(downloads.length > 0 && downloads.every(({ authorization }) => authorization === null));
  });
}

const POSTER = [['post.yml', 'post']];
test('the poster says that a run has begun, and that it measured nothing', async () => {
  const { fake } = server;
  Object.assign(fake.runs[7001], { status: 'queued', conclusion: null });
  const began = await act('workflow_run', 'post.yml', event('workflow_run.requested'), { token: token(POSTER), run: '70013' });
  assert.deepEqual(began.jobs, { build: 'success', post: 'success' }, began.text);
  nothingRefused(began.text);
  assert.deepEqual(fake.checks.map(({ name, status }) => [name, status]), [['regrade', 'in_progress']], began.text);
  assert.deepEqual(told(7), { comments: 0, checks: [undefined], statuses: ['pending'] }, began.text);
  Object.assign(fake.runs[7001], { status: 'completed', conclusion: 'timed_out' });
  const over = event('workflow_run', ({ workflow_run }) => (workflow_run.conclusion = 'timed_out'));
  const post = await act('workflow_run', 'post.yml', over, { token: token(POSTER), run: '70014' });
  nothingRefused(post.text);
  assert.deepEqual(fake.checks.map(({ conclusion, output }) => [conclusion, output.title]), [['failure', 'nothing was measured']], post.text);
  assert.deepEqual(told(7).statuses, ['pending', 'failure'], post.text);
});

test('the queue of what is merged next gets a check and a status, and nobody a comment', async () => {
  const { fake } = server;
  // A branch that GitHub makes; the commit is one that was measured.
  fake.pulls.queue = { ...fake.pulls[7], branch: `gh-readonly-queue/main/pr-7-${sha.main}`, state: 'in the queue' };
  fake.runs[7101] = { pull: 'queue', sha: sha.head, event: 'merge_group', conclusion: 'failure' };
  fake.artifacts.push({ id: 1, run: 7101, name: 'regrade-report', bytes: zip(reports[7]) });
  const queue = event('workflow_run.queue', ({ workflow_run }) => (workflow_run.head_sha = sha.head));
  const post = await act('workflow_run', 'post.yml', queue, { token: token(POSTER), run: '71011' });
  assert.deepEqual(post.jobs, { build: 'success', post: 'success' }, post.text);
  nothingRefused(post.text);
  assert.deepEqual(told(7), { comments: 0, checks: ['failure'], statuses: ['failure'] }, post.text);
});

test('the poster leaves alone what measures nothing, and benchmarks that a fork has no part in', async () => {
  const lane = (file) => (payload) => (payload.workflow_run.path = `.github/workflows/${file}`);
  const vars = { REGRADE_GPU: 'on' };
  for (const [name, change, more] of [
    ['workflow_run.requested', lane('bench-gpu.yml'), {}],
    ['workflow_run.requested', (payload) => (lane('bench-gpu.yml')(payload), (payload.workflow_run.head_branch = 'dependabot/cargo/a-1')), { vars }],
    ['workflow_run', ({ workflow_run }) => (workflow_run.conclusion = 'cancelled'), {}],
    ['workflow_run.fork', lane('bench-gpu.yml'), { vars }],
    ['workflow_run.fork', lane('forged.yml'), { vars }],
    ['workflow_run', lane('forged.yml'), { vars }],
    ['workflow_run.push', () => {}, {}],
  ]) {
    const post = await act('workflow_run', 'post.yml', event(name, change), more);
    assert.deepEqual(post.jobs, {}, post.text);
  }
  assert.deepEqual(server.fake.log, []);
});

// There is no such device here: the lane is shown a suite that any processor can run.
const GPU = { REGRADE_GPU: 'on', REGRADE_GPU_SUITE: 'suites/quickstart.toml' };
test('a GPU is for branches of the repository, where there is one', async () => {
  const vars = GPU;
  const fork = await act('pull_request', 'bench-gpu.yml', event('pull_request.fork'), { vars });
  assert.deepEqual(fork.jobs, {}, fork.text);
  const none = await act('pull_request', 'bench-gpu.yml', event('pull_request.opened'));
  assert.deepEqual(none.jobs, {}, none.text);
  const others = event('pull_request.opened', ({ pull_request: { user } }) => (user.login = 'dependabot[bot]'));
  const bot = await act('pull_request', 'bench-gpu.yml', others, { vars });
  assert.deepEqual(bot.jobs, {}, bot.text);
  const branch = await act('pull_request', 'bench-gpu.yml', event('pull_request.opened'), { vars, run: '7002' });
  assert.deepEqual(branch.jobs, { branch: 'failure' }, branch.text);
  assert.ok(fs.existsSync(path.join(branch.artifacts, 'regrade-report', 'report.json')), branch.text);
  assert.deepEqual(writes(), []);
});

test('a GPU lane without its suite fails instead of measuring the processor', async () => {
  const lane = await act('pull_request', 'bench-gpu.yml', event('pull_request.opened'), { vars: { REGRADE_GPU: 'on' }, run: '7004' });
  assert.deepEqual(lane.jobs, { branch: 'failure' }, lane.text);
  assert.match(lane.text, /suites\/nvidia-kernels\.toml/);
  assert.ok(!fs.existsSync(path.join(lane.artifacts, 'regrade-report')), lane.text);
});

const LANE_C = { inputs: 'success', measure: 'failure', build: 'success', post: 'success' };
test('lane C measures exactly the commit that was read, and tells its pull request', async () => {
  const vars = GPU;
  const lane = await act('workflow_dispatch', 'bench-gpu.yml', event('workflow_dispatch'), { vars, token: token([['reviewed.yml', 'post']]), run: '9001' });
  assert.deepEqual(lane.jobs, LANE_C, lane.text);
  assert.match(lane.text, new RegExp(`${sha.main.slice(0, 7)}[^\n]*\n[^]*${sha.fork.slice(0, 7)}`));
  nothingRefused(lane.text);
  assert.equal(told(8).comments, 1, lane.text);
});

test('lane C is there for who has no GPU, judges by the suite of the base branch, and stands against what a fork says itself', async () => {
  const lane = await act('workflow_dispatch', 'bench-pr.yml', event('workflow_dispatch'), { token: token([['reviewed.yml', 'post']]), run: '9002' });
  assert.deepEqual(lane.jobs, LANE_C, lane.text);
  nothingRefused(lane.text);
  const after = told(8);
  assert.equal(after.comments, 1, lane.text);
  const { fake } = server;
  fake.artifacts.push({ id: 1, run: 8001, name: 'regrade-report', bytes: zip(reports[8]) });
  fake.log.length = 0;
  const post = await act('workflow_run', 'post.yml', event('workflow_run.fork'), { token: token(POSTER), run: '80013' });
  assert.deepEqual(post.jobs, { build: 'success', post: 'success' }, post.text);
  assert.deepEqual([told(8), writes()], [after, []], post.text);
});

test('some cases measured once more get a comment of their own, and turn no check green', async () => {
  const vars = GPU;
  const some = event('workflow_dispatch', (payload) => (payload.inputs.filter = 'loop*'));
  const lane = await act('workflow_dispatch', 'bench-gpu.yml', some, { vars, token: token([['reviewed.yml', 'post']]), run: '9003' });
  assert.deepEqual(lane.jobs, LANE_C, lane.text);
  nothingRefused(lane.text);
  assert.deepEqual(told(8), { comments: 1, checks: [], statuses: [] }, lane.text);
  assert.ok(server.fake.comments.at(-1).body.startsWith('<!-- regrade:regrade-gpu-rerun:0 -->'), lane.text);
});

test('lane C refuses a commit that is not of the pull request, and what is no commit and no glob', async () => {
  const vars = { REGRADE_GPU: 'on' };
  for (const [input, value, said] of [
    ['sha', sha.head, 'is not part of this pull request'],
    ['sha', '$(touch owned)', 'sha is no full commit hash'],
    ['filter', '--inject=a', 'filter is no case'],
    ['filter', 'a$(touch owned)', 'filter is no case'],
  ]) {
    const lane = await act('workflow_dispatch', 'bench-gpu.yml', event('workflow_dispatch', (payload) => (payload.inputs[input] = value)), { vars, run: `91${value.length}` });
    assert.ok([lane.jobs.inputs, lane.jobs.measure].includes('failure'), lane.text);
    assert.ok(lane.text.includes(said), lane.text);
  }
  assert.deepEqual(writes(), []);
});

const BOT_JOBS = [['bot.yml', 'command'], ['bot.yml', 'dispatch']];
const started = () => server.fake.dispatches.map(({ workflow, ref, inputs }) => ({ workflow, ref, inputs }));
const answers = () => server.fake.comments.filter(({ login, body }) => login === BOT && body.startsWith('<!-- regrade:bot:1001 -->'));
const reactions = () => server.fake.reactions.map(({ content }) => content);
test('the bot starts lane C at the commit that was read, once', async () => {
  const vars = { REGRADE_GPU: 'on' };
  const file = comment('issue_comment.fork');
  const bot = await act('issue_comment', 'bot.yml', file, { token: token(BOT_JOBS), vars, run: '9101' });
  assert.deepEqual(bot.jobs, { build: 'success', command: 'success', dispatch: 'success' }, bot.text);
  nothingRefused(bot.text);
  const inputs = { pr: '8', sha: sha.fork, filter: '' };
  assert.deepEqual(started(), ['bench-pr.yml', 'bench-gpu.yml'].map((workflow) => ({ workflow, ref: 'main', inputs })), bot.text);
  assert.deepEqual([answers().length, reactions()], [1, ['rocket']], bot.text);
  const again = await act('issue_comment', 'bot.yml', file, { token: token(BOT_JOBS), vars, run: '9101' });
  assert.equal(again.jobs.dispatch, undefined, again.text);
  assert.deepEqual([answers().length, started().length], [1, 2], again.text);
});

test('some cases are measured once more where there is no GPU', async () => {
  const bot = await act('issue_comment', 'bot.yml', comment('issue_comment'), { token: token(BOT_JOBS), run: '9105' });
  assert.deepEqual(bot.jobs, { build: 'success', command: 'success', dispatch: 'success' }, bot.text);
  nothingRefused(bot.text);
  assert.deepEqual(started(), [{ workflow: 'bench-pr.yml', ref: 'main', inputs: { pr: '7', sha: sha.head, filter: 'loop*' } }], bot.text);
});

test('a fork without the commit that was read is explained, and starts nothing', async () => {
  const bot = await act('issue_comment', 'bot.yml', comment('issue_comment.unread'), { token: token(BOT_JOBS), vars: { REGRADE_GPU: 'on' }, run: '9106' });
  assert.equal(bot.jobs.dispatch, undefined, bot.text);
  assert.match(answers()[0].body, new RegExp(`\n/regrade compare at ${sha.fork}\n`));
  assert.deepEqual(server.fake.dispatches, []);
});

test('the bot starts nothing for others, nothing on issues, and nothing that was edited', async () => {
  const vars = { REGRADE_GPU: 'on' };
  const stranger = await act('issue_comment', 'bot.yml', comment('issue_comment.stranger'), { token: token(BOT_JOBS), vars, run: '9102' });
  assert.equal(stranger.jobs.dispatch, undefined, stranger.text);
  assert.deepEqual(reactions(), ['-1'], stranger.text);
  const issue = await act('issue_comment', 'bot.yml', comment('issue_comment.issue'), { token: token(BOT_JOBS), run: '9103' });
  assert.deepEqual(issue.jobs, {}, issue.text);
  for (const [name, meanwhile] of [['issue_comment.edited'], ['issue_comment', 'Never mind.']]) {
    const edited = await act('issue_comment', 'bot.yml', comment(name, meanwhile), { token: token(BOT_JOBS), vars, run: '9107' });
    assert.equal(edited.jobs.dispatch, undefined, edited.text);
  }
  assert.deepEqual([answers(), server.fake.dispatches], [[], []]);
});

test('a comment is no program', async () => {
  fs.rmSync('/tmp/owned', { force: true });
  const bot = await act('issue_comment', 'bot.yml', comment('issue_comment.hostile'), { token: token(BOT_JOBS), vars: { REGRADE_GPU: 'on' }, run: '9104' });
  assert.ok(!fs.existsSync('/tmp/owned'), bot.text);
  assert.match(answers()[0].body, /I did not understand that/);
  assert.deepEqual([bot.jobs.dispatch, bot.jobs.again, server.fake.dispatches], [undefined, undefined, []], bot.text);
});

const ACCEPT_JOBS = [['bot.yml', 'command'], ['bot.yml', 'again']];
test('what was accepted before anything was measured waits for its poster', async () => {
  server.fake.runs = {};
  const bot = await act('issue_comment', 'bot.yml', comment('issue_comment.accept'), { token: token(ACCEPT_JOBS), run: '9108' });
  assert.deepEqual(bot.jobs, { build: 'success', command: 'success', again: 'success' }, bot.text);
  nothingRefused(bot.text);
  assert.match(answers()[0].body, /^<!-- regrade:bot:1001 -->\n<!-- regrade:accepted:[A-Za-z0-9+/=]+ -->\n/);
  assert.match(bot.text, /no finished run of bench-pr.yml/);
});

test('what is accepted of a fork is for lane C, which the answer says', async () => {
  const bot = await act('issue_comment', 'bot.yml', comment('issue_comment.accept.fork'), { token: token(ACCEPT_JOBS), run: '9110' });
  assert.deepEqual(bot.jobs, { build: 'success', command: 'success', again: 'success' }, bot.text);
  nothingRefused(bot.text);
  assert.match(answers()[0].body, new RegExp(`/regrade compare at ${sha.fork}`));
  assert.match(bot.text, /the pull request comes from a fork/);
  assert.deepEqual([server.fake.checks, server.fake.statuses], [[], []], bot.text);
});

test('what was accepted turns the check of the newest run green, and no other run is looked at', async () => {
  const { fake } = server;
  // A fork that pushed the same commit has a run of it, too.
  fake.runs[8003] = { pull: 8, sha: sha.head, event: 'pull_request', conclusion: 'success' };
  fake.artifacts.push({ id: 1, run: 7001, name: 'regrade-report', bytes: zip(reports[7]) });
  const bot = await act('issue_comment', 'bot.yml', comment('issue_comment.accept'), { token: token(ACCEPT_JOBS), run: '9109' });
  assert.deepEqual(bot.jobs, { build: 'success', command: 'success', again: 'success' }, bot.text);
  nothingRefused(bot.text);
  assert.deepEqual(told(7), { comments: 2, checks: ['success'], statuses: ['success'] }, bot.text);
  assert.ok(!fake.log.some(({ path: at }) => at.includes('/runs/8003')), bot.text);
});

test('the night pushes a baseline, which the next pull request pulls', async () => {
  const night = await act('workflow_dispatch', 'nightly.yml', event('workflow_dispatch', (payload) => (payload.inputs = null)), { run: '9201' });
  assert.deepEqual(night.jobs, { baseline: 'success' }, night.text);
  assert.match(git(at('origin.git'), 'branch', '--list'), /regrade-baselines/);
  const bench = await act('pull_request', 'bench-pr.yml', event('pull_request.opened'), { run: '7003' });
  assert.doesNotMatch(bench.text, /there are no baselines/);
});

test('what `regrade init` writes measures, tells and keeps baselines too', async () => {
  server.fake.workflows['regrade.yml'] = { id: 161338, name: 'regrade', dispatch: false };
  server.fake.runs[8001].workflow = 'regrade.yml';
  const bench = await act('pull_request', 'regrade.yml', event('pull_request.fork'), { run: '8003' });
  assert.deepEqual(bench.jobs, { compare: 'failure' }, bench.text);
  assert.deepEqual(writes(), []);
  server.fake.artifacts.push({ id: 1, run: 8001, name: 'regrade-report', bytes: zip(path.join(bench.artifacts, 'regrade-report')) });
  server.fake.tokens.ghs_init = permissions('regrade-post.yml', 'post');
  const post = await act('workflow_run', 'regrade-post.yml', event('workflow_run.fork', (payload) => (payload.workflow_run.path = '.github/workflows/regrade.yml')), { token: 'ghs_init', run: '8004' });
  assert.deepEqual(post.jobs, { post: 'success' }, post.text);
  nothingRefused(post.text);
  assert.equal(told(8).comments, 1, post.text);
  const push = await act('push', 'regrade.yml', event('push'), { run: '9301' });
  assert.deepEqual(push.jobs, { baseline: 'success' }, push.text);
});
