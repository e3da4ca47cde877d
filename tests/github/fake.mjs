// A GitHub that remembers: comments, check runs, statuses, pull requests, artifacts, git objects and who may do what.
// Answers are the examples of GitHub's own description with what is known here filled in; serve.mjs puts Prism before
// it, so that a request or an answer against the description is an error. See README.md for how tests drive it.
import fs from 'node:fs';
import http from 'node:http';
import { createHash, verify } from 'node:crypto';
import { BOT, DEFAULT_BRANCH, OWNER, PEOPLE, PULLS, REPO, REPO_ID, RUNS, SHA, WORKFLOWS, sha1 } from './world.mjs';

const api = JSON.parse(fs.readFileSync(new URL('./api.json', import.meta.url), 'utf8'));
const NOW = '2026-01-02T03:04:05Z';
const LATER = '2026-01-02T03:14:15Z';
const GITHUB_ACTIONS_APP = 15368;

/** An answer of GitHub's that is not a success. */
class Refusal extends Error {
  constructor(status, message, more = {}, headers = {}) {
    super(message);
    Object.assign(this, { status, headers, body: { message, documentation_url: 'https://docs.github.com/rest', status: `${status}`, ...more } });
  }
}
const notFound = () => new Refusal(404, 'Not Found');
const invalid = (message, errors = []) => new Refusal(422, message, { errors });
const mustBe = (found) => {
  if (found === undefined) throw notFound();
  return found;
};
const gitSha = (kind, bytes) => createHash('sha1').update(`${kind} ${bytes.length}\0`).update(bytes).digest('hex');

export class Fake {
  constructor() {
    this.base = 'http://127.0.0.1:9';
    this.downloads = this.base;
    this.reset();
  }

  reset() {
    this.nextId = 5_000_000;
    this.private = false;
    this.people = { ...PEOPLE };
    // What a token may do; one that is not listed here but begins with `ghs_` may do everything a workflow's can.
    this.tokens = {
      ghs_read: { contents: 'read', checks: 'read', statuses: 'read', issues: 'read', pull_requests: 'read', actions: 'read' },
    };
    // An App of somebody's, and which account its tokens write as.
    this.ownApp = null;
    this.installed = {};
    this.pulls = structuredClone(PULLS);
    this.locked = [];
    this.labels = { 7: ['performance'] };
    this.comments = [];
    for (let index = 1; index <= 150; index++) {
      this.comments.push({ id: 1000 + index, issue: 7, login: index % 3 ? 'hubot' : 'octo-boss', body: `Remark ${index}` });
    }
    this.reactions = [];
    this.checks = [];
    this.statuses = [];
    this.dispatches = [];
    this.runs = structuredClone(RUNS);
    this.workflows = structuredClone(WORKFLOWS);
    this.artifacts = [];
    this.blobs = new Map();
    this.trees = new Map();
    this.commits = new Map();
    const empty = this.putTree(new Map([['README.md', { mode: '100644', sha: this.putBlob(Buffer.from('# octo-repo\n')) }]]));
    const parents = { root: [], base: ['root'], main: ['base'], before: ['base'], head: ['before'], fork: ['base'], stale: ['base'], twin: ['base'], merge: ['main', 'head'], queue: ['main'] };
    for (const [name, of] of Object.entries(parents)) {
      this.commits.set(SHA[name], { tree: empty, parents: of.map((parent) => SHA[parent]), message: name });
    }
    this.refs = { [`refs/heads/${DEFAULT_BRANCH}`]: SHA.main, 'refs/heads/faster-softmax': SHA.head };
    this.faults = [];
    this.log = [];
  }

  id() {
    return this.nextId++;
  }

  /** Everything a test may want to look at. */
  dump() {
    const { people, tokens, pulls, comments, reactions, checks, statuses, dispatches, runs, refs, faults, locked, labels } = this;
    const branch = (ref) => {
      const files = {};
      for (const [path, entry] of this.trees.get(this.commits.get(ref).tree)) files[path] = this.blobs.get(entry.sha).toString('base64');
      return { sha: ref, message: this.commits.get(ref).message, parents: this.commits.get(ref).parents, files };
    };
    return {
      private: this.private, people, tokens, pulls, comments, reactions, checks, statuses, dispatches, runs, refs, faults, locked, labels,
      artifacts: this.artifacts.map(({ bytes, ...artifact }) => ({ ...artifact, size: bytes.length })),
      branches: Object.fromEntries(Object.entries(refs).map(([ref, sha]) => [ref, branch(sha)])),
      requests: this.log.length,
    };
  }

  // Git objects: real object names, so that the same content has the same name.
  putBlob(bytes) {
    const sha = gitSha('blob', bytes);
    this.blobs.set(sha, bytes);
    return sha;
  }
  putTree(files) {
    const sorted = new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)));
    const sha = sha1(`tree ${JSON.stringify([...sorted])}`);
    this.trees.set(sha, sorted);
    return sha;
  }
  putCommit(tree, parents, message, author) {
    const sha = sha1(`commit ${JSON.stringify([tree, parents, message, author ?? null])}`);
    this.commits.set(sha, { tree, parents, message });
    return sha;
  }
  ancestors(sha) {
    const seen = new Set();
    for (const todo = [sha]; todo.length > 0; ) {
      const next = todo.pop();
      if (seen.has(next) || !this.commits.has(next)) continue;
      seen.add(next);
      todo.push(...this.commits.get(next).parents);
    }
    return seen;
  }
  /** A commit by its name, a branch, or `refs/pull/N/head`. */
  resolve(ref) {
    const pull = /^(?:refs\/)?pull\/(\d+)\/head$/.exec(ref);
    const sha = pull ? this.pulls[pull[1]]?.sha : (this.refs[`refs/heads/${ref}`] ?? this.refs[ref] ?? this.refs[`refs/${ref}`] ?? ref);
    return this.commits.has(sha) ? sha : undefined;
  }

  // The description's examples, filled in.
  example(name) {
    return JSON.parse(JSON.stringify(api.components.examples[name].value).replaceAll('https://api.github.com', this.base));
  }
  get repoUrl() {
    return `${this.base}/repos/${OWNER}/${REPO}`;
  }
  get htmlUrl() {
    return `https://github.com/${OWNER}/${REPO}`;
  }
  user(login) {
    const user = JSON.parse(JSON.stringify(this.example('issue-comment').user).replaceAll('octocat', encodeURIComponent(login)));
    const id = login === BOT ? 41898282 : 100 + (parseInt(sha1(login).slice(0, 6), 16) % 100_000);
    return { ...user, login, id, type: login.endsWith('[bot]') ? 'Bot' : 'User' };
  }
  repository(owner = OWNER) {
    const id = owner === OWNER ? REPO_ID : REPO_ID + 1 + (parseInt(sha1(owner).slice(0, 4), 16) % 1000);
    const text = JSON.stringify(this.example('pull-request').base.repo).replaceAll('octocat/Hello-World', `${owner}/${REPO}`);
    return { ...JSON.parse(text), id, name: REPO, full_name: `${owner}/${REPO}`, owner: this.user(owner), private: this.private, fork: owner !== OWNER, default_branch: DEFAULT_BRANCH, visibility: this.private ? 'private' : 'public' };
  }
  minimalRepository(owner) {
    const text = JSON.stringify(this.example('workflow-run').repository).replaceAll('octo-org/octo-repo', `${owner}/${REPO}`);
    const { id, fork } = this.repository(owner);
    return { ...JSON.parse(text), id, fork, name: REPO, full_name: `${owner}/${REPO}`, owner: this.user(owner), private: this.private };
  }
  comment({ id, issue, login, body, created_at = NOW, updated_at = NOW }) {
    return { ...this.example('issue-comment'), id, url: `${this.repoUrl}/issues/comments/${id}`, html_url: `${this.htmlUrl}/pull/${issue}#issuecomment-${id}`, issue_url: `${this.repoUrl}/issues/${issue}`, body, user: this.user(login), created_at, updated_at, author_association: PEOPLE[login] ? 'MEMBER' : 'NONE' };
  }
  side(owner, branch, sha) {
    return { label: `${owner}:${branch}`, ref: branch, sha, user: this.user(owner), repo: this.repository(owner) };
  }
  pull(number, simple = false) {
    const pull = this.pulls[number];
    const example = simple ? this.example('pull-request-simple-items')[0] : this.example('pull-request');
    const url = `${this.repoUrl}/pulls/${number}`;
    return {
      ...example, url, number: Number(number), id: 900_000 + Number(number), html_url: `${this.htmlUrl}/pull/${number}`, issue_url: `${this.repoUrl}/issues/${number}`,
      state: pull.state, locked: this.locked.includes(Number(number)), title: pull.title, user: this.user(pull.author), draft: false,
      closed_at: pull.state === 'closed' ? NOW : null, merged_at: null, ...(simple ? {} : { merged: false, merged_by: null }),
      // The example names teams with a field that the schema does not allow.
      requested_teams: [], requested_reviewers: [], assignee: null, assignees: [], milestone: null,
      labels: [], author_association: PEOPLE[pull.author] ? 'MEMBER' : 'CONTRIBUTOR', merge_commit_sha: SHA.merge,
      // A deleted fork leaves no repository behind.
      head: pull.gone ? { ...this.side(pull.owner, pull.branch, pull.sha), repo: null } : this.side(pull.owner, pull.branch, pull.sha),
      base: this.side(OWNER, DEFAULT_BRANCH, SHA.base),
    };
  }
  app() {
    return { ...this.example('check-run').app, id: GITHUB_ACTIONS_APP, slug: 'github-actions', name: 'GitHub Actions' };
  }
  check(check) {
    const url = `${this.repoUrl}/check-runs/${check.id}`;
    return {
      ...this.example('check-run'), id: check.id, name: check.name, head_sha: check.head_sha, status: check.status, conclusion: check.conclusion ?? null,
      url, html_url: `${this.htmlUrl}/runs/${check.id}`, details_url: check.details_url ?? `${this.htmlUrl}/runs/${check.id}`, external_id: check.external_id ?? '',
      started_at: check.started_at ?? NOW, completed_at: check.status === 'completed' ? (check.completed_at ?? NOW) : null, app: this.app(),
      output: { title: check.output?.title ?? null, summary: check.output?.summary ?? null, text: check.output?.text ?? null, annotations_count: check.annotations.length, annotations_url: `${url}/annotations` },
      // Empty for a fork's commit.
      pull_requests: [],
    };
  }
  run(id) {
    const run = this.runs[id];
    const pull = this.pulls[run.pull];
    const file = run.workflow ?? 'bench-pr.yml';
    const workflow = this.workflows[file];
    const text = JSON.stringify(this.example('workflow-run')).replaceAll('/runs/30433642', `/runs/${id}`);
    return {
      ...JSON.parse(text), id: Number(id), name: workflow.name, path: `.github/workflows/${file}`, workflow_id: workflow.id, event: run.event, status: run.status ?? 'completed',
      conclusion: run.conclusion, head_branch: pull.branch, head_sha: run.sha, run_attempt: 1, pull_requests: [], display_title: pull.title,
      actor: this.user(pull.author), triggering_actor: this.user(pull.author), repository: this.minimalRepository(OWNER), head_repository: this.minimalRepository(pull.owner),
    };
  }
  artifact({ id, run, name, bytes, expired = false, digest }) {
    const url = `${this.repoUrl}/actions/artifacts/${id}`;
    const { pull, sha } = this.runs[run];
    return {
      ...this.example('artifact'), id, name, size_in_bytes: bytes.length, url, archive_download_url: `${url}/zip`, expired,
      digest: digest ?? `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
      workflow_run: { id: Number(run), repository_id: REPO_ID, head_repository_id: this.repository(this.pulls[pull].owner).id, head_branch: this.pulls[pull].branch, head_sha: sha },
    };
  }
  gitCommit(sha) {
    const { tree, parents, message } = this.commits.get(sha);
    const url = (kind, name) => `${this.repoUrl}/git/${kind}/${name}`;
    return { ...this.example('git-commit'), sha, url: url('commits', sha), html_url: `${this.htmlUrl}/commit/${sha}`, message, tree: { sha: tree, url: url('trees', tree) }, parents: parents.map((parent) => ({ sha: parent, url: url('commits', parent), html_url: `${this.htmlUrl}/commit/${parent}` })) };
  }
  fullCommit(sha) {
    const example = this.example('commit');
    const { tree, parents, message } = this.commits.get(sha);
    return {
      ...example, sha, url: `${this.repoUrl}/commits/${sha}`, html_url: `${this.htmlUrl}/commit/${sha}`, commit: { ...example.commit, message, tree: { sha: tree, url: `${this.repoUrl}/git/trees/${tree}` } },
      parents: parents.map((parent) => ({ sha: parent, url: `${this.repoUrl}/commits/${parent}`, html_url: `${this.htmlUrl}/commit/${parent}` })),
    };
  }
  ref(ref) {
    const sha = this.refs[ref];
    return { ...this.example('git-ref'), ref, url: `${this.repoUrl}/git/${ref}`, object: { type: 'commit', sha, url: `${this.repoUrl}/git/commits/${sha}` } };
  }
  file(path, entry, full) {
    const bytes = this.blobs.get(entry.sha);
    const size = bytes.length;
    // Beyond a megabyte the content is left out.
    const content = size > 1_000_000 ? { content: '', encoding: 'none' } : { content: bytes.toString('base64').replace(/.{60}/g, '$&\n'), encoding: 'base64' };
    const name = path.split('/').at(-1);
    const url = `${this.repoUrl}/contents/${path}`;
    const git = `${this.repoUrl}/git/blobs/${entry.sha}`;
    const html = `${this.htmlUrl}/blob/${DEFAULT_BRANCH}/${path}`;
    const download = `https://raw.githubusercontent.com/${OWNER}/${REPO}/${DEFAULT_BRANCH}/${path}`;
    return { type: 'file', size, name, path, sha: entry.sha, url, git_url: git, html_url: html, download_url: download, _links: { self: url, git, html }, ...(full ? content : {}) };
  }

  /** Who asks, and whether that may be asked. `needs` lists alternatives such as `issues:write`. */
  authorize(authorization, needs) {
    const token = /^(?:bearer|token) +(\S+)$/i.exec(authorization ?? '')?.[1];
    if (!token) throw new Refusal(401, 'Requires authentication');
    if (token.startsWith('eyJ')) return this.authorizeApp(token);
    if (token.startsWith('ghp_')) return { login: token.slice(4) || 'octo-boss', app: false };
    if (!token.startsWith('ghs_')) throw new Refusal(401, 'Bad credentials');
    const may = this.tokens[token];
    const granted = !may || needs.some((need) => {
      const [scope, access] = need.split(':');
      return scope === 'metadata' || may[scope] === 'write' || (may[scope] === 'read' && access === 'read');
    });
    if (!granted) {
      throw new Refusal(403, 'Resource not accessible by integration', {}, { 'x-accepted-github-permissions': needs.map((need) => need.replace(':', '=')).join('; ') });
    }
    return { login: this.installed[token] ?? BOT, app: true };
  }

  /** The App itself, by a word that its key signed: for ten minutes at most. */
  authorizeApp(token) {
    const refused = new Refusal(401, 'A JSON web token could not be decoded');
    const [header, payload, signature] = token.split('.');
    const read = (part) => JSON.parse(Buffer.from(part, 'base64url').toString());
    const { iss, iat, exp } = read(payload);
    const good = this.ownApp && read(header).alg === 'RS256' && `${iss}` === `${this.ownApp.id}` && exp - iat <= 660
      && verify('sha256', Buffer.from(`${header}.${payload}`), this.ownApp.key, Buffer.from(signature, 'base64url'));
    if (!good) throw refused;
    return { login: null, app: true, isApp: true };
  }

  /** The answer to a request whose body is parsed. */
  answer({ method, path, query, authorization, body }) {
    try {
      for (const route of ROUTES) {
        const match = route.method === method && route.pattern.exec(path);
        if (!match) continue;
        const who = this.authorize(authorization, route.needs);
        const names = match.slice(1).map(decodeURIComponent);
        // The names of owners and repositories do not distinguish case.
        if (route.inRepo && names.splice(0, 2).join('/').toLowerCase() !== `${OWNER}/${REPO}`) throw notFound();
        return { status: 200, headers: {}, ...route.handle.call(this, { names, query, body: body ?? {}, who, path }) };
      }
      throw notFound();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { status: error.status, headers: error.headers, body: error.body };
    }
  }

  /** One page of a list, with the links that lead to the others: GitHub's name the repository by its number. */
  page(items, query, path, wrap = (page) => page) {
    const per = Math.min(Math.max(Number(query.get('per_page') ?? 30) || 30, 1), 100);
    const page = Math.max(Number(query.get('page') ?? 1) || 1, 1);
    const last = Math.max(Math.ceil(items.length / per), 1);
    const to = (number, rel) => {
      const other = new URLSearchParams(query);
      other.set('page', number);
      return `<${this.base}${path.replace(`/repos/${OWNER}/${REPO}`, `/repositories/${REPO_ID}`)}?${other}>; rel="${rel}"`;
    };
    const links = [];
    if (page > 1) links.push(to(page - 1, 'prev'));
    if (page < last) links.push(to(page + 1, 'next'), to(last, 'last'));
    if (page > 1) links.push(to(1, 'first'));
    return { body: wrap(items.slice((page - 1) * per, page * per)), headers: links.length > 0 ? { link: links.join(', ') } : {} };
  }

  issue(number) {
    if (!this.pulls[number]) throw notFound();
    return Number(number);
  }
  commentOf(id) {
    return mustBe(this.comments.find((comment) => comment.id === Number(id)));
  }
  knownCommit(sha) {
    if (!this.commits.has(sha)) throw invalid(`No commit found for SHA: ${sha}`);
  }
  moveRef(ref, sha, force) {
    if (!this.commits.has(sha)) throw invalid('Object does not exist');
    if (!force && this.refs[ref] && !this.ancestors(sha).has(this.refs[ref])) throw invalid('Update is not a fast forward');
    this.refs[ref] = sha;
  }
  /** The body of a check run: what the last update said; annotations add up. */
  updateCheck(check, { output, ...fields }) {
    Object.assign(check, fields);
    if (fields.conclusion) check.status = 'completed';
    if (output) {
      check.annotations.push(...(output.annotations ?? []));
      check.output = { ...check.output, ...output, annotations: undefined };
    }
  }
}

const ROUTES = [];
/** `{x}` is a segment, `{x+}` the rest. Paths that begin with a dot lie below /repos/{owner}/{repo}. */
function route(method, template, needs, handle) {
  const inRepo = template.startsWith('.');
  const full = inRepo ? `/repos/{owner}/{repo}${template.slice(1)}` : template;
  const pattern = new RegExp(`^${full.replaceAll('.', '\\.').replace(/\{\w+\+\}/g, '(.+)').replace(/\{\w+\}/g, '([^/]+)')}$`);
  ROUTES.push({ method, pattern, needs: needs.split(' '), inRepo, handle });
}
const TALK = (access) => `issues:${access} pull_requests:${access}`;

route('GET', '/user', 'metadata:read', function ({ who }) {
  // A workflow's token has no user behind it.
  if (who.app) throw new Refusal(403, 'Resource not accessible by integration');
  return { body: { ...this.example('private-user-response-with-public-and-private-profile-information'), ...this.user(who.login) } };
});
const appOnly = (who) => {
  if (!who.isApp) throw new Refusal(401, 'A JSON web token could not be decoded');
};
route('GET', '/app', 'metadata:read', function ({ who }) {
  appOnly(who);
  return { body: { ...this.example('integration'), id: this.ownApp.id, slug: this.ownApp.slug } };
});
route('GET', './installation', 'metadata:read', function ({ who }) {
  appOnly(who);
  return { body: { ...this.example('installation'), id: 77, app_id: this.ownApp.id, app_slug: this.ownApp.slug } };
});
route('POST', '/app/installations/{id}/access_tokens', 'metadata:read', function ({ names: [id], who, body }) {
  appOnly(who);
  if (id !== '77') throw notFound();
  if (!body?.repositories?.includes(REPO)) throw invalid('There is at least one repository that does not exist or is not accessible');
  const token = `ghs_app${this.id()}`;
  this.installed[token] = `${this.ownApp.slug}[bot]`;
  return { status: 201, body: { ...this.example('installation-token'), token } };
});
route('GET', '/rate_limit', 'metadata:read', function () {
  return { body: this.example('rate-limit-overview') };
});
route('GET', '.', 'metadata:read', function () {
  const full = this.example('full-repository-default-response');
  const { template_repository, parent, source, organization, ...plain } = full;
  return { body: { ...plain, ...this.repository(), network_count: 0, subscribers_count: 1 } };
});
route('GET', './collaborators/{username}/permission', 'metadata:read', function ({ names: [login] }) {
  const role = this.people[login] ?? (this.private ? 'none' : 'read');
  // `maintain` and `triage` are roles; the older field knows four levels only.
  const permission = { maintain: 'write', triage: 'read' }[role] ?? role;
  const example = this.example('repository-collaborator-permission-response-if-user-has-admin-permissions');
  return { body: { ...example, permission, role_name: role, user: { ...example.user, ...this.user(login), role_name: role } } };
});

route('GET', './issues/{number}', TALK('read'), function ({ names: [number] }) {
  this.issue(number);
  const url = `${this.repoUrl}/pulls/${number}`;
  const { title, state, author } = this.pulls[number];
  const example = this.example('issue');
  return { body: { ...example, number: Number(number), id: 800_000 + Number(number), url: `${this.repoUrl}/issues/${number}`, html_url: `${this.htmlUrl}/pull/${number}`, title, state, user: this.user(author), locked: this.locked.includes(Number(number)), pull_request: { url, html_url: `${this.htmlUrl}/pull/${number}`, diff_url: `${this.htmlUrl}/pull/${number}.diff`, patch_url: `${this.htmlUrl}/pull/${number}.patch` } } };
});
route('GET', './issues/{number}/labels', TALK('read'), function ({ names: [number], query, path }) {
  this.issue(number);
  const [example] = this.example('label-items');
  const labels = (this.labels[number] ?? []).map((name, index) => ({ ...example, id: 300 + index, name, url: `${this.repoUrl}/labels/${name}` }));
  return this.page(labels, query, path);
});
route('GET', './issues/{number}/comments', TALK('read'), function ({ names: [number], query, path }) {
  const issue = this.issue(number);
  return this.page(this.comments.filter((comment) => comment.issue === issue).map((comment) => this.comment(comment)), query, path);
});
route('POST', './issues/{number}/comments', TALK('write'), function ({ names: [number], body, who }) {
  const issue = this.issue(number);
  if (this.locked.includes(issue)) throw new Refusal(403, 'Unable to create comment because issue is locked.');
  const comment = { id: this.id(), issue, login: who.login, body: body.body };
  this.comments.push(comment);
  const made = this.comment(comment);
  return { status: 201, body: made, headers: { location: made.url } };
});
route('GET', './issues/comments/{id}', TALK('read'), function ({ names: [id] }) {
  return { body: this.comment(this.commentOf(id)) };
});
route('PATCH', './issues/comments/{id}', TALK('write'), function ({ names: [id], body, who }) {
  const comment = this.commentOf(id);
  // Write access to the repository is enough for a person; the workflow's own token edits only what it wrote.
  if (who.app && comment.login !== who.login) throw new Refusal(403, 'Resource not accessible by integration');
  Object.assign(comment, { body: body.body, updated_at: LATER, edits: (comment.edits ?? 0) + 1 });
  return { body: this.comment(comment) };
});
route('DELETE', './issues/comments/{id}', TALK('write'), function ({ names: [id] }) {
  this.comments.splice(this.comments.indexOf(this.commentOf(id)), 1);
  return { status: 204 };
});
const reactionOf = (fake, { id, login, content }) => ({ ...fake.example('reaction'), id, content, user: fake.user(login) });
route('GET', './issues/comments/{id}/reactions', 'issues:read', function ({ names: [id], query, path }) {
  const { id: comment } = this.commentOf(id);
  return this.page(this.reactions.filter((reaction) => reaction.comment === comment).map((reaction) => reactionOf(this, reaction)), query, path);
});
// `pull-requests` alone is not enough here, unlike for the comments themselves.
route('POST', './issues/comments/{id}/reactions', 'issues:write', function ({ names: [id], body, who }) {
  const { id: comment } = this.commentOf(id);
  const same = this.reactions.find((reaction) => reaction.comment === comment && reaction.login === who.login && reaction.content === body.content);
  if (same) return { body: reactionOf(this, same) };
  const reaction = { id: this.id(), comment, login: who.login, content: body.content };
  this.reactions.push(reaction);
  return { status: 201, body: reactionOf(this, reaction) };
});

route('POST', './check-runs', 'checks:write', function ({ body, who }) {
  if (!who.app) throw new Refusal(403, 'You must authenticate via a GitHub App.');
  this.knownCommit(body.head_sha);
  const check = { id: this.id(), annotations: [], output: {}, status: 'queued' };
  this.updateCheck(check, body);
  this.checks.push(check);
  return { status: 201, body: this.check(check) };
});
const checkOf = (fake, id) => mustBe(fake.checks.find((check) => check.id === Number(id)));
route('GET', './check-runs/{id}', 'checks:read', function ({ names: [id] }) {
  return { body: this.check(checkOf(this, id)) };
});
route('PATCH', './check-runs/{id}', 'checks:write', function ({ names: [id], body, who }) {
  if (!who.app) throw new Refusal(403, 'You must authenticate via a GitHub App.');
  const check = checkOf(this, id);
  this.updateCheck(check, body);
  check.updates = (check.updates ?? 0) + 1;
  return { body: this.check(check) };
});
route('GET', './commits/{ref}/check-runs', 'checks:read', function ({ names: [ref], query, path }) {
  const sha = this.resolve(ref);
  if (!sha) throw invalid(`No commit found for SHA: ${ref}`);
  let checks = this.checks.filter((check) => check.head_sha === sha);
  for (const [parameter, field] of [['check_name', 'name'], ['status', 'status']]) {
    if (query.has(parameter)) checks = checks.filter((check) => check[field] === query.get(parameter));
  }
  if ((query.get('filter') ?? 'latest') === 'latest') checks = checks.filter((check, index) => !checks.slice(index + 1).some((later) => later.name === check.name));
  return this.page(checks.map((check) => this.check(check)), query, path, (check_runs) => ({ total_count: checks.length, check_runs }));
});
const statusOf = (fake, status) => ({ ...fake.example('status'), id: status.id, url: `${fake.repoUrl}/statuses/${status.sha}`, state: status.state, description: status.description ?? null, target_url: status.target_url ?? null, context: status.context, creator: fake.user(status.login) });
route('POST', './statuses/{sha}', 'statuses:write', function ({ names: [sha], body, who }) {
  this.knownCommit(sha);
  if (this.statuses.filter((status) => status.sha === sha && status.context === (body.context ?? 'default')).length >= 1000) {
    throw invalid('Validation Failed', [{ resource: 'Status', code: 'custom', message: 'This SHA and context has reached the maximum number of statuses.' }]);
  }
  const status = { id: this.id(), sha, login: who.login, context: 'default', ...body };
  this.statuses.push(status);
  return { status: 201, body: statusOf(this, status), headers: { location: `${this.repoUrl}/statuses/${sha}` } };
});
route('GET', './commits/{ref}/statuses', 'statuses:read', function ({ names: [ref], query, path }) {
  const sha = mustBe(this.resolve(ref));
  return this.page(this.statuses.filter((status) => status.sha === sha).reverse().map((status) => statusOf(this, status)), query, path);
});

route('GET', './pulls', 'pull_requests:read', function ({ query, path }) {
  const state = query.get('state') ?? 'open';
  let numbers = Object.keys(this.pulls).filter((number) => state === 'all' || this.pulls[number].state === state);
  const head = query.get('head');
  // A head without an owner filters nothing.
  if (head?.includes(':')) numbers = numbers.filter((number) => `${this.pulls[number].owner}:${this.pulls[number].branch}` === head);
  if (query.has('base')) numbers = numbers.filter(() => query.get('base') === DEFAULT_BRANCH);
  numbers.sort((a, b) => b - a);
  return this.page(numbers.map((number) => this.pull(number, true)), query, path);
});
route('GET', './pulls/{number}', 'pull_requests:read', function ({ names: [number] }) {
  if (!this.pulls[number]) throw notFound();
  return { body: this.pull(number) };
});
route('GET', './pulls/{number}/files', 'pull_requests:read', function ({ names: [number], query, path }) {
  if (!this.pulls[number]) throw notFound();
  const files = this.pulls[number].files ?? ['src/softmax.rs'];
  const [example] = this.example('diff-entry-items');
  return this.page(files.map((filename) => ({ ...example, filename })), query, path);
});
route('GET', './commits/{sha}/pulls', 'pull_requests:read', function ({ names: [sha], query, path }) {
  // Nothing for a commit that lives in a fork only.
  const numbers = Object.keys(this.pulls).filter((number) => this.pulls[number].sha === sha && this.pulls[number].owner === OWNER);
  return this.page(numbers.map((number) => this.pull(number, true)), query, path);
});

const workflowOf = (fake, name) => mustBe(Object.keys(fake.workflows).find((file) => file === name || `${fake.workflows[file].id}` === name));
route('GET', './actions/workflows/{workflow}/runs', 'actions:read', function ({ names: [name], query, path }) {
  const file = workflowOf(this, name);
  const wanted = (run) =>
    [['event', run.event], ['head_sha', run.head_sha], ['branch', run.head_branch], ['actor', run.actor.login]].every(([key, value]) => !query.has(key) || query.get(key) === value) &&
    [undefined, null, run.status, run.conclusion].includes(query.get('status'));
  const runs = Object.keys(this.runs).map((id) => this.run(id)).filter((run) => run.path.endsWith(`/${file}`) && wanted(run)).sort((a, b) => b.id - a.id);
  return this.page(runs, query, path, (workflow_runs) => ({ total_count: runs.length, workflow_runs }));
});
route('GET', './actions/runs/{id}', 'actions:read', function ({ names: [id] }) {
  if (!this.runs[id]) throw notFound();
  return { body: this.run(id) };
});
route('GET', './actions/runs/{id}/artifacts', 'actions:read', function ({ names: [id], query, path }) {
  if (!this.runs[id]) throw notFound();
  const artifacts = this.artifacts.filter((artifact) => artifact.run === Number(id) && (!query.has('name') || artifact.name === query.get('name')));
  return this.page(artifacts.map((artifact) => this.artifact(artifact)), query, path, (page) => ({ total_count: artifacts.length, artifacts: page }));
});
const artifactOf = (fake, id) => mustBe(fake.artifacts.find((artifact) => artifact.id === Number(id)));
route('GET', './actions/artifacts/{id}', 'actions:read', function ({ names: [id] }) {
  return { body: this.artifact(artifactOf(this, id)) };
});
route('GET', './actions/artifacts/{id}/zip', 'actions:read', function ({ names: [id] }) {
  const artifact = artifactOf(this, id);
  if (artifact.expired) throw new Refusal(410, 'Artifact has expired');
  // Another host than the API's, as on GitHub: no token belongs there.
  return { status: 302, headers: { location: `${this.downloads}/__download/${artifact.id}?sig=${sha1(`${artifact.id}`)}` } };
});
route('POST', './actions/workflows/{workflow}/dispatches', 'actions:write', function ({ names: [name], body, who }) {
  const file = workflowOf(this, name);
  if (!this.workflows[file].dispatch) throw invalid("Workflow does not have 'workflow_dispatch' trigger");
  if (!this.resolve(body.ref)) throw invalid(`No ref found for: ${body.ref}`);
  this.dispatches.push({ workflow: file, ref: body.ref, inputs: body.inputs ?? {}, login: who.login });
  if (!body.return_run_details) return { status: 204 };
  return { body: { ...this.example('workflow-dispatch-response'), workflow_run_id: this.id() } };
});

route('GET', './commits/{ref}', 'contents:read', function ({ names: [ref] }) {
  const sha = this.resolve(ref);
  if (!sha) throw invalid(`No commit found for SHA: ${ref}`);
  return { body: this.fullCommit(sha) };
});
route('GET', './compare/{range}', 'contents:read', function ({ names: [range], query }) {
  const [from, to] = range.split('...').map((ref) => this.resolve(ref.split(':').at(-1)));
  if (!from || !to) throw notFound();
  const [behind, ahead] = [this.ancestors(from), this.ancestors(to)];
  const only = (mine, theirs) => [...mine].filter((sha) => !theirs.has(sha));
  const [ahead_by, behind_by] = [only(ahead, behind), only(behind, ahead)].map((side) => side.length);
  const shared = [...ahead].find((sha) => behind.has(sha));
  if (!shared) throw notFound();
  const status = ahead_by && behind_by ? 'diverged' : ahead_by ? 'ahead' : behind_by ? 'behind' : 'identical';
  const commits = only(ahead, behind).reverse().map((sha) => this.fullCommit(sha));
  const example = this.example('commit-comparison');
  return { body: { ...example, status, ahead_by, behind_by, total_commits: commits.length, commits: commits.slice(0, Number(query.get('per_page') ?? 250)), base_commit: this.fullCommit(from), merge_base_commit: this.fullCommit(shared) } };
});
const treeAt = (fake, ref) => fake.trees.get(fake.commits.get(mustBe(fake.resolve(ref ?? DEFAULT_BRANCH))).tree);
route('GET', './contents/{path+}', 'contents:read', function ({ names: [path], query }) {
  const tree = treeAt(this, query.get('ref') ?? undefined);
  const entry = tree.get(path);
  if (entry) return { body: this.file(path, entry, true) };
  const below = [...tree].filter(([name]) => name.startsWith(`${path}/`) && !name.slice(path.length + 1).includes('/'));
  if (below.length === 0) throw notFound();
  return { body: below.map(([name, entry]) => this.file(name, entry, false)) };
});
route('PUT', './contents/{path+}', 'contents:write', function ({ names: [path], body }) {
  const ref = `refs/heads/${body.branch ?? DEFAULT_BRANCH}`;
  const tip = this.refs[ref];
  if (!tip) throw new Refusal(404, `Branch ${body.branch} not found`);
  const files = new Map(this.trees.get(this.commits.get(tip).tree));
  const old = files.get(path);
  if (old && !body.sha) throw invalid(`Invalid request.\n\n"sha" wasn't supplied.`);
  if (old && body.sha !== old.sha) throw new Refusal(409, `${path} does not match ${body.sha}`);
  const entry = { mode: '100644', sha: this.putBlob(Buffer.from(body.content, 'base64')) };
  files.set(path, entry);
  const sha = this.putCommit(this.putTree(files), [tip], body.message);
  this.refs[ref] = sha;
  const example = this.example('file-commit-example-for-creating-a-file');
  return { status: old ? 200 : 201, body: { content: this.file(path, entry, false), commit: { ...example.commit, ...this.gitCommit(sha) } } };
});
route('POST', './git/blobs', 'contents:write', function ({ body }) {
  const sha = this.putBlob(Buffer.from(body.content, body.encoding === 'base64' ? 'base64' : 'utf8'));
  const url = `${this.repoUrl}/git/blobs/${sha}`;
  return { status: 201, body: { url, sha }, headers: { location: url } };
});
route('GET', './git/blobs/{sha}', 'contents:read', function ({ names: [sha] }) {
  const bytes = mustBe(this.blobs.get(sha));
  return { body: { ...this.example('blob'), sha, size: bytes.length, encoding: 'base64', content: bytes.toString('base64'), url: `${this.repoUrl}/git/blobs/${sha}` } };
});
const treeBody = (fake, sha) => ({
  sha, url: `${fake.repoUrl}/git/trees/${sha}`, truncated: false,
  tree: [...fake.trees.get(sha)].map(([path, entry]) => ({ path, mode: entry.mode, type: 'blob', sha: entry.sha, size: fake.blobs.get(entry.sha).length, url: `${fake.repoUrl}/git/blobs/${entry.sha}` })),
});
route('POST', './git/trees', 'contents:write', function ({ body }) {
  const from = body.base_tree === undefined ? undefined : (this.commits.get(body.base_tree)?.tree ?? body.base_tree);
  if (from !== undefined && !this.trees.has(from)) throw notFound();
  const files = new Map(from ? this.trees.get(from) : []);
  for (const { path, mode, sha, content } of body.tree) {
    if (sha === null) files.delete(path);
    else if (content !== undefined) files.set(path, { mode, sha: this.putBlob(Buffer.from(content)) });
    else if (this.blobs.has(sha)) files.set(path, { mode, sha });
    else throw invalid(`tree.sha ${sha} is not a valid blob`);
  }
  const sha = this.putTree(files);
  const made = treeBody(this, sha);
  return { status: 201, body: made, headers: { location: made.url } };
});
route('GET', './git/trees/{sha}', 'contents:read', function ({ names: [name] }) {
  const sha = this.trees.has(name) ? name : this.commits.get(mustBe(this.resolve(name))).tree;
  return { body: treeBody(this, sha) };
});
route('POST', './git/commits', 'contents:write', function ({ body }) {
  if (!this.trees.has(body.tree)) throw invalid('Tree SHA does not exist');
  for (const parent of body.parents ?? []) if (!this.commits.has(parent)) throw invalid('Parent SHA does not exist or is not a commit object');
  const made = this.gitCommit(this.putCommit(body.tree, body.parents ?? [], body.message, body.author));
  return { status: 201, body: made, headers: { location: made.url } };
});
route('GET', './git/commits/{sha}', 'contents:read', function ({ names: [sha] }) {
  if (!this.commits.has(sha)) throw notFound();
  return { body: this.gitCommit(sha) };
});
route('GET', './git/ref/{ref+}', 'contents:read', function ({ names: [ref] }) {
  if (!this.refs[`refs/${ref}`]) throw notFound();
  return { body: this.ref(`refs/${ref}`) };
});
route('POST', './git/refs', 'contents:write', function ({ body }) {
  if (!/^refs\/[^/]+\/.+/.test(body.ref)) throw invalid('Reference name is not valid, it must begin with refs/ and have two slashes');
  if (this.refs[body.ref]) throw invalid('Reference already exists');
  this.moveRef(body.ref, body.sha, true);
  const made = this.ref(body.ref);
  return { status: 201, body: made, headers: { location: made.url } };
});
route('PATCH', './git/refs/{ref+}', 'contents:write', function ({ names: [ref], body }) {
  if (!this.refs[`refs/${ref}`]) throw invalid('Reference does not exist');
  this.moveRef(`refs/${ref}`, body.sha, body.force === true);
  return { body: this.ref(`refs/${ref}`) };
});
route('DELETE', './git/refs/{ref+}', 'contents:write', function ({ names: [ref] }) {
  if (!this.refs[`refs/${ref}`]) throw invalid('Reference does not exist');
  delete this.refs[`refs/${ref}`];
  return { status: 204 };
});

const bytesOf = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
};
const parse = (bytes) => {
  try {
    return bytes.length > 0 ? JSON.parse(bytes.toString('utf8')) : null;
  } catch {
    return bytes.toString('utf8');
  }
};
const send = (response, { status, headers = {}, body }) => {
  const bytes = body === undefined ? '' : Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const type = body === undefined || Buffer.isBuffer(body) ? {} : { 'content-type': 'application/json; charset=utf-8' };
  response.writeHead(status, { ...type, ...headers, 'content-length': Buffer.byteLength(bytes) }).end(bytes);
};
const listening = (server) =>
  new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`)));

/** The API itself, and downloads; what Prism stands before. */
export async function serveApi(fake) {
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, 'http://x');
    const bytes = await bytesOf(request);
    const download = /^\/__download\/(\d+)$/.exec(url.pathname);
    if (download) {
      const artifact = fake.artifacts.find(({ id }) => id === Number(download[1]));
      const answer = artifact ? { status: 200, headers: { 'content-type': 'application/zip' }, body: artifact.bytes } : { status: 404 };
      await through(fake, request, url, null, response, async () => answer);
      return;
    }
    const budget = { 'x-ratelimit-limit': '1000', 'x-ratelimit-remaining': `${Math.max(1000 - fake.log.length, 1)}`, 'x-ratelimit-reset': `${Math.floor(Date.now() / 1000) + 3600}`, 'x-ratelimit-resource': 'core', 'x-github-request-id': sha1(`${fake.log.length}`).slice(0, 16) };
    try {
      const answer = fake.answer({ method: request.method, path: url.pathname, query: url.searchParams, authorization: request.headers.authorization, body: parse(bytes) });
      // Prism would follow a redirect itself; the front puts the name back.
      const { location, ...others } = answer.headers;
      const moved = location && answer.status === 302 ? { 'x-location': location } : location ? { location } : {};
      send(response, { ...answer, headers: { ...budget, ...others, ...moved } });
    } catch (error) {
      send(response, { status: 500, body: { message: `the fake broke: ${error.stack}` } });
    }
  });
  return { server, url: await listening(server) };
}

const RATE_LIMITED = { message: 'API rate limit exceeded for installation ID 1.', documentation_url: 'https://docs.github.com/rest/overview/rate-limits-for-the-rest-api' };
const MESSAGES = {
  401: 'Bad credentials', 403: 'Resource not accessible by integration', 404: 'Not Found', 410: 'Gone', 422: 'Validation Failed',
  429: 'You have exceeded a secondary rate limit. Please wait a few minutes before you try again.', 500: 'Server Error', 502: 'Server Error', 503: 'Service unavailable',
};

/** Logs a request, and lets a fault happen to it where one is due. */
async function through(fake, request, url, body, response, forward) {
  const { headers } = request;
  const entry = { method: request.method, path: url.pathname, query: Object.fromEntries(url.searchParams), host: headers.host, authorization: headers.authorization ?? null, accept: headers.accept ?? null, user_agent: headers['user-agent'] ?? null, api_version: headers['x-github-api-version'] ?? null, body, at: Date.now() };
  fake.log.push(entry);
  const fault = fake.faults.find(({ match, times }) => times > 0 && new RegExp(match).test(`${request.method} ${url.pathname}`));
  if (fault) {
    fault.times -= 1;
    entry.fault = fault;
    if (fault.delay_ms) await new Promise((done) => setTimeout(done, fault.delay_ms));
  }
  // `after`: the request is carried out, and its answer is lost.
  const lost = fault && (fault.status || fault.reset || fault.truncate);
  const answer = lost && !fault.after && !fault.truncate ? null : await forward();
  if (fault?.status) {
    const exhausted = fault.headers?.['x-ratelimit-remaining'] === '0';
    const said = fault.body ?? (exhausted ? RATE_LIMITED : { message: fault.headers?.['retry-after'] ? MESSAGES[429] : (MESSAGES[fault.status] ?? 'Error'), documentation_url: 'https://docs.github.com/rest', status: `${fault.status}` });
    entry.status = fault.status;
    send(response, { status: fault.status, headers: fault.headers ?? {}, body: said });
  } else if (fault?.reset) {
    entry.status = 0;
    request.socket.resetAndDestroy();
  } else {
    entry.status = answer.status;
    if (answer.headers?.['content-type']?.includes('problem+json') || answer.headers?.['sl-violations']) entry.violation = answer.body?.toString() ?? answer.headers['sl-violations'];
    if (fault?.truncate) {
      const bytes = Buffer.isBuffer(answer.body) ? answer.body : Buffer.from(JSON.stringify(answer.body ?? null));
      response.writeHead(answer.status, { ...answer.headers, 'content-length': bytes.length });
      response.write(bytes.subarray(0, bytes.length / 2), () => request.socket.resetAndDestroy());
    } else {
      send(response, answer);
    }
  }
}

/** What clients talk to: the controls below `/__`, faults and the log, and `upstream` for the rest. */
export async function serveFront(fake, upstream) {
  const target = new URL(upstream);
  const agent = new http.Agent({ keepAlive: true });
  const forward = (request, path, bytes) => () =>
    new Promise((resolve, reject) => {
      const { connection, 'transfer-encoding': _, ...headers } = request.headers;
      const sent = http.request({ agent, host: target.hostname, port: target.port, method: request.method, path, headers: { ...headers, host: target.host, ...(bytes.length > 0 ? { 'content-length': bytes.length } : {}) } });
      sent.on('error', reject).on('response', async (answer) => {
        const { connection: _c, 'transfer-encoding': _t, 'content-length': _l, 'x-location': moved, ...kept } = answer.headers;
        resolve({ status: answer.statusCode, headers: moved ? { ...kept, location: moved } : kept, body: await bytesOf(answer) });
      });
      sent.end(bytes);
    });
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, 'http://x');
    const bytes = await bytesOf(request);
    const body = parse(bytes);
    try {
      if (url.pathname.startsWith('/__')) {
        send(response, control(fake, request.method, url, body));
        return;
      }
      // Links of lists name the repository by its number.
      const path = request.url.replace(`/repositories/${REPO_ID}/`, `/repos/${OWNER}/${REPO}/`);
      await through(fake, request, url, body, response, forward(request, path, bytes));
    } catch (error) {
      if (!response.headersSent) send(response, { status: 500, body: { message: `the fake broke: ${error.stack}` } });
    }
  });
  return { server, url: await listening(server) };
}

function control(fake, method, url, body) {
  const verb = `${method} ${url.pathname.slice(3)}`;
  switch (verb) {
    case 'GET state':
      return { status: 200, body: fake.dump() };
    case 'GET log':
      return { status: 200, body: fake.log };
    case 'DELETE log':
      fake.log = [];
      return { status: 204 };
    case 'GET violations':
      return { status: 200, body: fake.log.filter((entry) => entry.violation) };
    case 'POST reset':
      fake.reset();
      return { status: 204 };
    case 'POST fault':
      fake.faults.push({ times: 1, ...body });
      return { status: 204 };
    case 'DELETE fault':
      fake.faults = [];
      return { status: 204 };
    case 'POST comment': {
      const comment = { id: fake.id(), issue: 7, login: 'hubot', body: '', ...body };
      fake.comments.push(comment);
      return { status: 200, body: comment };
    }
    case 'POST commit':
      fake.commits.set(body.sha, { tree: fake.commits.get(SHA.main).tree, parents: body.parents ?? [SHA.base], message: body.message ?? '' });
      return { status: 204 };
    case 'POST file': {
      // Into the tip as it is: its name is made up anyway.
      const tip = fake.commits.get(fake.refs[`refs/heads/${body.branch ?? DEFAULT_BRANCH}`]);
      tip.tree = fake.putTree(new Map(fake.trees.get(tip.tree)).set(body.path, { mode: '100644', sha: fake.putBlob(Buffer.from(body.text)) }));
      return { status: 204 };
    }
    case 'POST artifact': {
      const { base64, file, ...fields } = body;
      const bytes = file ? fs.readFileSync(file) : Buffer.from(base64 ?? '', 'base64');
      const artifact = { id: fake.id(), name: 'regrade-report', run: 7001, ...fields, bytes };
      fake.artifacts.push(artifact);
      return { status: 200, body: { id: artifact.id } };
    }
    case 'POST token':
      fake.tokens[body.token] = body.permissions;
      return { status: 204 };
    case 'POST app':
      fake.ownApp = body;
      return { status: 204 };
    case 'POST set': {
      // {"path": ["pulls", "7", "sha"], "value": …}
      const last = body.path.at(-1);
      const owner = body.path.slice(0, -1).reduce((node, key) => node[key], fake);
      owner[last] = body.value;
      return { status: 204 };
    }
    default:
      return { status: 404, body: { message: `no control \`${verb}\`; README.md lists them` } };
  }
}
