// Event payloads, as files that `act -e` and GITHUB_EVENT_PATH take: GitHub's examples with the facts of world.mjs, and
// variants that GitHub has no example of, above all pull requests from forks. `node events.mjs` writes them anew;
// events.test.mjs holds them against GitHub's schema and says when a file is not what this makes.
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DEFAULT_BRANCH, OWNER, PULLS, REPO, REPO_ID, RUNS, SHA, WORKFLOWS, sha1 } from './world.mjs';

const FULL = `${OWNER}/${REPO}`;
const index = new URL('./node_modules/@octokit/webhooks-examples/api.github.com/index.json', import.meta.url);
const examples = JSON.parse(fs.readFileSync(index, 'utf8'));

/** An example, moved to this world's repository. */
function example(name, number) {
  const text = JSON.stringify(examples.find((event) => event.name === name).examples[number])
    .replaceAll('Codertocat/Hello-World', FULL)
    .replaceAll('octo-org/octo-repo', FULL);
  const event = JSON.parse(text);
  Object.assign(event.repository, { id: REPO_ID, name: REPO, full_name: FULL, default_branch: DEFAULT_BRANCH, private: false, fork: false });
  Object.assign(event.repository.owner, { login: OWNER, type: 'Organization' });
  delete event.installation;
  return event;
}
const person = (user, login) => ({ ...JSON.parse(JSON.stringify(user).replaceAll(user.login, login)), id: 100 + (parseInt(sha1(login).slice(0, 6), 16) % 100_000), type: 'User' });

function pullRequest(number, from, action) {
  const event = example('pull_request', from);
  const { pull_request: pull } = event;
  const { title, author, owner, branch, sha, state } = PULLS[number];
  // URLs of the example name its own number.
  const text = JSON.stringify(pull).replaceAll(`pulls/${pull.number}`, `pulls/${number}`).replaceAll(`issues/${pull.number}`, `issues/${number}`).replaceAll(`pull/${pull.number}`, `pull/${number}`);
  const moved = JSON.parse(text);
  const user = person(pull.user, author);
  const fork = owner !== OWNER;
  const headRepository = JSON.parse(JSON.stringify(event.repository).replaceAll(FULL, `${owner}/${REPO}`));
  Object.assign(headRepository, fork ? { id: REPO_ID + 1 + (parseInt(sha1(owner).slice(0, 4), 16) % 1000), fork, owner: person(event.repository.owner, owner) } : {});
  Object.assign(moved, { number, title, state, user, labels: [], draft: false, author_association: fork ? 'CONTRIBUTOR' : 'MEMBER' });
  Object.assign(moved.head, { label: `${owner}:${branch}`, ref: branch, sha, user: fork ? user : moved.head.user, repo: { ...moved.head.repo, ...headRepository } });
  Object.assign(moved.base, { label: `${OWNER}:${DEFAULT_BRANCH}`, ref: DEFAULT_BRANCH, sha: SHA.base, repo: { ...moved.base.repo, ...event.repository } });
  return { ...event, action, number, pull_request: moved, sender: user, ...(action === 'synchronize' ? { before: SHA.before, after: sha } : {}) };
}

function workflowRun(id, action = 'completed') {
  // The fourth example has just been asked for, and neither began nor ended.
  const event = example('workflow_run', action === 'requested' ? 3 : 1);
  const run = RUNS[id];
  const { owner, branch, author, title } = PULLS[run.pull];
  const workflow = WORKFLOWS['bench-pr.yml'];
  const path = '.github/workflows/bench-pr.yml';
  const fork = owner !== OWNER;
  const old = event.workflow_run;
  const moved = JSON.parse(JSON.stringify(old).replaceAll(`runs/${old.id}`, `runs/${id}`));
  const head = JSON.parse(JSON.stringify(old.head_repository).replaceAll(FULL, `${owner}/${REPO}`));
  Object.assign(head, { name: REPO, full_name: `${owner}/${REPO}`, fork, id: fork ? REPO_ID + 1 + (parseInt(sha1(owner).slice(0, 4), 16) % 1000) : REPO_ID });
  if (fork) head.owner = person(old.head_repository.owner, owner);
  Object.assign(moved, {
    id, name: workflow.name, path, workflow_id: workflow.id, event: run.event, ...(action === 'completed' ? { status: 'completed', conclusion: run.conclusion } : {}), display_title: title,
    head_branch: branch, head_sha: run.sha, head_repository: head, pull_requests: [], actor: person(moved.actor ?? event.sender, author), triggering_actor: person(moved.actor ?? event.sender, author),
  });
  Object.assign(moved.head_commit, { id: run.sha });
  Object.assign(moved.repository, { id: REPO_ID });
  return { ...event, action, workflow: { ...event.workflow, id: workflow.id, name: workflow.name, path }, workflow_run: moved, sender: moved.actor };
}

/** The queue's run: of a branch that GitHub makes and throws away, and of no pull request's head. */
function queueRun() {
  const event = workflowRun(7001);
  const { id } = event.workflow_run;
  const moved = JSON.parse(JSON.stringify(event).replaceAll(`runs/${id}`, 'runs/7101'));
  Object.assign(moved.workflow_run, { id: 7101, event: 'merge_group', head_branch: `gh-readonly-queue/${DEFAULT_BRANCH}/pr-7-${SHA.main}`, head_sha: SHA.queue, display_title: 'Merge pull request #7' });
  moved.workflow_run.head_commit.id = SHA.queue;
  return moved;
}

function comment(login, body, association, pull = 7) {
  const event = example('issue_comment', 1);
  const text = JSON.stringify(event).replaceAll('issues/1', `issues/${pull}`).replaceAll('number":1', `number":${pull}`);
  const moved = JSON.parse(text);
  const who = person(moved.comment.user, login);
  const url = (kind) => `https://github.com/${FULL}/pull/${pull}${kind}`;
  Object.assign(moved.issue, { title: PULLS[pull].title, html_url: url(''), user: person(moved.issue.user, PULLS[pull].author), labels: [], assignee: null, assignees: [], pull_request: { url: `https://api.github.com/repos/${FULL}/pulls/${pull}`, html_url: url(''), diff_url: url('.diff'), patch_url: url('.patch') } });
  Object.assign(moved.comment, { id: 1001, url: `https://api.github.com/repos/${FULL}/issues/comments/1001`, html_url: url('#issuecomment-1001'), body, user: who, author_association: association });
  return { ...moved, sender: who };
}

function edited() {
  const event = comment('octo-boss', '/regrade compare', 'MEMBER');
  return { ...event, action: 'edited', changes: { body: { from: 'Nice work.' } } };
}

function onIssue() {
  const event = comment('hubot', '/regrade compare', 'MEMBER');
  delete event.issue.pull_request;
  return event;
}

function push() {
  const event = example('push', 1);
  const commit = { id: SHA.main, tree_id: sha1('tree'), distinct: true, message: 'main', timestamp: '2026-01-02T03:04:05Z', url: `https://github.com/${FULL}/commit/${SHA.main}`, author: { name: 'hubot', email: 'hubot@example.invalid' }, committer: { name: 'hubot', email: 'hubot@example.invalid' }, added: [], removed: [], modified: ['README.md'] };
  return { ...event, ref: `refs/heads/${DEFAULT_BRANCH}`, before: SHA.base, after: SHA.main, created: false, deleted: false, forced: false, base_ref: null, commits: [commit], head_commit: commit };
}

function mergeGroup() {
  const event = example('merge_group', 1);
  Object.assign(event.merge_group, { head_sha: SHA.queue, base_sha: SHA.main, head_ref: `refs/heads/gh-readonly-queue/${DEFAULT_BRANCH}/pr-7-${SHA.main}`, base_ref: `refs/heads/${DEFAULT_BRANCH}` });
  event.merge_group.head_commit.id = SHA.queue;
  return event;
}

function dispatch(inputs) {
  return { ...example('workflow_dispatch', 1), ref: `refs/heads/${DEFAULT_BRANCH}`, workflow: '.github/workflows/bench-gpu.yml', inputs };
}

function schedule() {
  const { repository, sender, organization } = example('workflow_dispatch', 1);
  return { schedule: '17 3 * * *', repository, sender, organization, workflow: '.github/workflows/nightly.yml' };
}

const from = (name, number) => `\`${name}\` example ${number}`;
/** File → event, schema (none where GitHub publishes none), what it was derived from and what was changed. */
export const EVENTS = {
  'pull_request.opened.json': { schema: 'pull_request$opened', make: () => pullRequest(7, 12, 'opened'), source: from('pull_request', 12), changed: 'pull request 7' },
  'pull_request.synchronize.json': { schema: 'pull_request$synchronize', make: () => pullRequest(7, 22, 'synchronize'), source: from('pull_request', 22), changed: 'pull request 7' },
  'pull_request.fork.json': { schema: 'pull_request$opened', make: () => pullRequest(8, 12, 'opened'), source: from('pull_request', 12), changed: 'pull request 8: `head.repo` is the fork `mona/octo-repo`' },
  'push.json': { schema: 'push$event', make: push, source: from('push', 1), changed: 'a commit on `main`' },
  'merge_group.json': { schema: 'merge_group$checks_requested', make: mergeGroup, source: from('merge_group', 1), changed: 'pull request 7 in the queue' },
  'workflow_run.json': { schema: 'workflow_run$completed', make: () => workflowRun(7001), source: from('workflow_run', 1), changed: '`event` is `pull_request`; pull request 7' },
  'workflow_run.fork.json': { schema: 'workflow_run$completed', make: () => workflowRun(8001), source: from('workflow_run', 1), changed: '`event` is `pull_request`, `head_repository` the fork, `pull_requests` empty' },
  'workflow_run.push.json': { schema: 'workflow_run$completed', make: () => workflowRun(8002), source: from('workflow_run', 1), changed: 'as the fork, but `event` is `push`: a workflow that must not be believed' },
  'workflow_run.requested.json': { schema: 'workflow_run$requested', make: () => workflowRun(7001, 'requested'), source: from('workflow_run', 3), changed: 'pull request 7, whose run is still to begin' },
  'workflow_run.queue.json': { schema: 'workflow_run$completed', make: queueRun, source: from('workflow_run', 1), changed: '`event` is `merge_group`: pull request 7 in the queue' },
  'issue_comment.json': { schema: 'issue_comment$created', make: () => comment('octo-boss', '/regrade rerun loop*', 'MEMBER'), source: from('issue_comment', 1), changed: 'an admin on pull request 7' },
  'issue_comment.accept.json': { schema: 'issue_comment$created', make: () => comment('keeper', 'Known, and worth it.\n/regrade accept loop@cpu up to 80% because of checked arithmetic', 'MEMBER'), source: from('issue_comment', 1), changed: 'a maintainer accepts a change of pull request 7' },
  'issue_comment.accept.fork.json': { schema: 'issue_comment$created', make: () => comment('keeper', '/regrade accept `loop@cpu` up to 80% because of checked arithmetic', 'MEMBER', 8), source: from('issue_comment', 1), changed: 'a maintainer accepts a change of pull request 8, which is a fork' },
  'issue_comment.edited.json': { schema: 'issue_comment$edited', make: edited, source: from('issue_comment', 1), changed: 'the command came with an edit' },
  'issue_comment.fork.json': { schema: 'issue_comment$created', make: () => comment('octo-boss', `/regrade compare at ${SHA.fork}`, 'MEMBER', 8), source: from('issue_comment', 1), changed: 'an admin on pull request 8, which is a fork, with the commit that was read' },
  'issue_comment.unread.json': { schema: 'issue_comment$created', make: () => comment('octo-boss', '/regrade compare', 'MEMBER', 8), source: from('issue_comment', 1), changed: 'the same without the commit' },
  'issue_comment.stranger.json': { schema: 'issue_comment$created', make: () => comment('mona', `/regrade compare at ${SHA.fork}`, 'OWNER', 8), source: from('issue_comment', 1), changed: 'somebody without write access, whatever the event says' },
  'issue_comment.hostile.json': { schema: 'issue_comment$created', make: () => comment('hubot', '/regrade rerun $(touch /tmp/owned) `id` "; exit 1; # \n::set-output name=pr::1', 'MEMBER'), source: from('issue_comment', 1), changed: 'shell and workflow commands in the body' },
  'issue_comment.issue.json': { schema: 'issue_comment$created', make: onIssue, source: from('issue_comment', 1), changed: 'on an issue: no `pull_request`' },
  'workflow_dispatch.json': { schema: 'workflow_dispatch$event', make: () => dispatch({ pr: '8', sha: SHA.fork }), source: from('workflow_dispatch', 1), changed: 'lane C: `pr` and `sha` of pull request 8' },
  'schedule.json': { make: schedule, source: 'no example and no schema exists', changed: 'the repository of `workflow_dispatch` example 1 and the cron line' },
};

const HEAD = `# Event payloads

Written by \`node tests/github/events.mjs\` from @octokit/webhooks-examples 7.6.1 (MIT); every file names the repository, people and
commits of \`world.mjs\`. \`events.test.mjs\` validates them with @octokit/webhooks-schemas.

| file | derived from | what was changed |
| --- | --- | --- |
`;
export const readme = () => HEAD + Object.entries(EVENTS).map(([file, { source, changed }]) => `| \`${file}\` | ${source} | ${changed} |\n`).join('');

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = new URL('./events/', import.meta.url);
  fs.mkdirSync(folder, { recursive: true });
  for (const [file, { make }] of Object.entries(EVENTS)) fs.writeFileSync(new URL(file, folder), `${JSON.stringify(make(), null, 1)}\n`);
  fs.writeFileSync(new URL('README.md', folder), readme());
}
