// The fake keeps GitHub's contract (every call of api.json is made once, through Prism) and what the contract does not
// say: who may do what, paging, one comment staying one comment, faults.
import assert from 'node:assert/strict';
import { createSign, generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { serve } from './serve.mjs';
import { SHA } from './world.mjs';

const R = '/repos/octo-org/octo-repo';
let server;
before(async () => void (server = await serve()));
after(() => server.close());
beforeEach(() => server.fake.reset());

async function call(method, path, { body, token = 'ghs_write', headers = {}, follow = false } = {}) {
  const url = path.startsWith('http') ? path : server.url + path;
  const answer = await fetch(url, {
    method,
    redirect: follow ? 'follow' : 'manual',
    headers: { accept: 'application/vnd.github+json', ...(token ? { authorization: `Bearer ${token}` } : {}), ...(body ? { 'content-type': 'application/json' } : {}), ...headers },
    body: body ? JSON.stringify(body) : undefined,
  });
  const text = await answer.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    json = text;
  }
  return { status: answer.status, headers: answer.headers, body: json };
}
async function ok(status, ...rest) {
  const answer = await call(...rest);
  assert.equal(answer.status, status, `${rest[0]} ${rest[1]}: ${JSON.stringify(answer.body)?.slice(0, 1500)}`);
  return answer;
}
const control = (method, path, body) => call(method, `/__${path}`, { body });

test('every call of the description is answered in its shape', async () => {
  const { body: artifact } = await control('POST', 'artifact', { run: 7001, base64: Buffer.from('zip').toString('base64') });
  await ok(200, 'GET', '/rate_limit');
  await ok(200, 'GET', '/user', { token: 'ghp_hubot' });
  await ok(200, 'GET', R);
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await control('POST', 'app', { id: 12, slug: 'bench', key: publicKey.export({ type: 'spki', format: 'pem' }) });
  const word = (claims) => {
    const text = [{ alg: 'RS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    return `${text}.${createSign('sha256').update(text).sign(privateKey, 'base64url')}`;
  };
  const app = { token: word({ iat: 0, exp: 600, iss: '12' }) };
  await ok(200, 'GET', '/app', app);
  const { body: installation } = await ok(200, 'GET', `${R}/installation`, app);
  await ok(201, 'POST', `/app/installations/${installation.id}/access_tokens`, { ...app, body: { repositories: ['octo-repo'] } });
  for (const claims of [{ iat: 0, exp: 600, iss: '13' }, { iat: 0, exp: 6000, iss: '12' }]) assert.equal((await call('GET', '/app', { token: word(claims) })).status, 401);
  assert.equal((await call('GET', '/app')).status, 401, 'an installation is not the App');
  for (const login of ['octo-boss', 'hubot', 'keeper', 'triager', 'stranger']) await ok(200, 'GET', `${R}/collaborators/${login}/permission`);

  await ok(200, 'GET', `${R}/issues/7`);
  await ok(200, 'GET', `${R}/issues/7/labels`);
  await ok(200, 'GET', `${R}/issues/7/comments?per_page=100`);
  const { body: comment } = await ok(201, 'POST', `${R}/issues/7/comments`, { body: { body: 'hello' } });
  await ok(200, 'GET', `${R}/issues/comments/${comment.id}`);
  await ok(200, 'PATCH', `${R}/issues/comments/${comment.id}`, { body: { body: 'hello again' } });
  await ok(201, 'POST', `${R}/issues/comments/${comment.id}/reactions`, { body: { content: 'eyes' } });
  await ok(200, 'POST', `${R}/issues/comments/${comment.id}/reactions`, { body: { content: 'eyes' } });
  await ok(200, 'GET', `${R}/issues/comments/${comment.id}/reactions`);
  await ok(204, 'DELETE', `${R}/issues/comments/${comment.id}`);

  const { body: check } = await ok(201, 'POST', `${R}/check-runs`, { body: { name: 'regrade', head_sha: SHA.head, status: 'in_progress' } });
  const annotation = { path: 'suite.toml', start_line: 1, end_line: 1, annotation_level: 'failure', message: 'slower' };
  for (let part = 0; part < 2; part++) {
    await ok(200, 'PATCH', `${R}/check-runs/${check.id}`, { body: { conclusion: 'failure', output: { title: 't', summary: 's', annotations: Array(50).fill(annotation) } } });
  }
  const { body: updated } = await ok(200, 'GET', `${R}/check-runs/${check.id}`);
  assert.deepEqual([updated.status, updated.conclusion, updated.output.annotations_count], ['completed', 'failure', 100]);
  const { body: checks } = await ok(200, 'GET', `${R}/commits/${SHA.head}/check-runs?check_name=regrade`);
  assert.equal(checks.total_count, 1);
  await ok(201, 'POST', `${R}/statuses/${SHA.head}`, { body: { state: 'failure', context: 'regrade', description: 'slower' } });
  await ok(200, 'GET', `${R}/commits/${SHA.head}/statuses`);

  await ok(200, 'GET', `${R}/pulls?state=open&head=mona:tiles`);
  for (const number of [7, 8, 9, 10]) await ok(200, 'GET', `${R}/pulls/${number}`);
  await ok(200, 'GET', `${R}/pulls/7/files?per_page=100`);
  await ok(200, 'GET', `${R}/commits/${SHA.head}/pulls`);
  await ok(200, 'GET', `${R}/commits/${SHA.head}`);
  const { body: compared } = await ok(200, 'GET', `${R}/compare/${SHA.main}...${SHA.head}`);
  assert.deepEqual([compared.status, compared.ahead_by, compared.behind_by], ['diverged', 2, 1]);

  for (const run of [7001, 8001, 8000, 8002]) await ok(200, 'GET', `${R}/actions/runs/${run}`);
  await ok(200, 'GET', `${R}/actions/runs/7001/artifacts?name=regrade-report`);
  await ok(200, 'GET', `${R}/actions/artifacts/${artifact.id}`);
  const moved = await ok(302, 'GET', `${R}/actions/artifacts/${artifact.id}/zip`);
  const elsewhere = await ok(200, 'GET', moved.headers.get('location'), { token: null });
  assert.equal(elsewhere.body, 'zip');
  assert.notEqual(new URL(moved.headers.get('location')).host, new URL(server.url).host);
  await ok(204, 'POST', `${R}/actions/workflows/bench-gpu.yml/dispatches`, { body: { ref: 'main', inputs: { pr: '8', sha: SHA.fork } } });
  await ok(200, 'POST', `${R}/actions/workflows/161336/dispatches`, { body: { ref: 'main', return_run_details: true } });

  const runs = (query) => ok(200, 'GET', `${R}/actions/workflows/bench-pr.yml/runs?${query}`).then(({ body }) => body.workflow_runs.map(({ id }) => id));
  assert.deepEqual(await runs(`event=pull_request&status=completed&head_sha=${SHA.fork}`), [8001]);
  assert.deepEqual(await runs('status=failure'), []);

  await ok(200, 'GET', `${R}/contents/README.md`);
  await ok(201, 'PUT', `${R}/contents/a.txt`, { body: { message: 'a', content: 'YQ==' } });
  for (const path of ['p/a.txt', 'p/q/a.txt', 'p/q/r/a.txt', 'p/q/r/s/a.txt']) {
    await ok(201, 'PUT', `${R}/contents/${path}`, { body: { message: 'a', content: 'YQ==' } });
    const { body: file } = await ok(200, 'GET', `${R}/contents/${path}`);
    await ok(200, 'PUT', `${R}/contents/${path}`, { body: { message: 'b', content: 'Yg==', sha: file.sha } });
  }
  await ok(200, 'GET', `${R}/contents/p`);
  const { body: blob } = await ok(201, 'POST', `${R}/git/blobs`, { body: { content: '<svg/>', encoding: 'utf-8' } });
  assert.equal(blob.sha, '950ddbbd87f70356e400dbd9eb234b9447dfccab', 'what `git hash-object` says');
  await ok(200, 'GET', `${R}/git/blobs/${blob.sha}`);
  const { body: tree } = await ok(201, 'POST', `${R}/git/trees`, { body: { tree: [{ path: 'plots/x.svg', mode: '100644', type: 'blob', sha: blob.sha }] } });
  await ok(200, 'GET', `${R}/git/trees/${tree.sha}`);
  const { body: commit } = await ok(201, 'POST', `${R}/git/commits`, { body: { message: 'plots', tree: tree.sha, parents: [] } });
  await ok(200, 'GET', `${R}/git/commits/${commit.sha}`);
  for (const ref of ['heads/plots', 'heads/a/b', 'heads/a/b/c']) {
    await ok(201, 'POST', `${R}/git/refs`, { body: { ref: `refs/${ref}`, sha: commit.sha } });
    await ok(200, 'GET', `${R}/git/ref/${ref}`);
    const { body: next } = await ok(201, 'POST', `${R}/git/commits`, { body: { message: ref, tree: tree.sha, parents: [commit.sha] } });
    await ok(200, 'PATCH', `${R}/git/refs/${ref}`, { body: { sha: next.sha } });
    await ok(422, 'PATCH', `${R}/git/refs/${ref}`, { body: { sha: SHA.main } });
    await ok(204, 'DELETE', `${R}/git/refs/${ref}`);
  }
  const { body: violations } = await control('GET', 'violations');
  assert.deepEqual(violations, []);

  const api = JSON.parse(fs.readFileSync(new URL('./api.json', import.meta.url), 'utf8'));
  const { body: log } = await control('GET', 'log');
  const missed = [];
  for (const [path, operations] of Object.entries(api.paths)) {
    // `git/ref/{ref}` without a slash names nothing: `heads` is no ref.
    if (/git\/refs?\/\{ref\}$/.test(path)) continue;
    const pattern = new RegExp(`^${path.replace('{archive_format}', 'zip').replace(/\{\w+\}/g, '[^/]+')}$`);
    for (const method of Object.keys(operations)) {
      const made = log.some((entry) => entry.method.toLowerCase() === method && pattern.test(entry.path) && entry.status < 400);
      if (!made) missed.push(`${method} ${path}`);
    }
  }
  assert.deepEqual(missed, []);
});

test('requests against the contract are refused before they reach the fake', async () => {
  const wrong = [
    [422, 'POST', `${R}/issues/7/comments`, { body: {} }],
    [422, 'POST', `${R}/issues/7/comments`, { body: { body: 'x'.repeat(65537) } }],
    [422, 'POST', `${R}/check-runs`, { body: { name: 'x', head_sha: SHA.head, status: 'completed' } }],
    [422, 'POST', `${R}/statuses/${SHA.head}`, { body: { state: 'bad' } }],
    [405, 'POST', `${R}/issues/comments/1001`, { body: { body: 'x' } }],
    [404, 'GET', `${R}/nothing`],
    [401, 'GET', R, { token: null }],
  ];
  for (const [status, ...rest] of wrong) await ok(status, ...rest);
  assert.equal(server.fake.comments.length, 150);
  const { body } = await control('GET', 'violations');
  assert.equal(body.length, wrong.length);
});

test('lists come in pages whose links name the repository by number', async () => {
  const ids = [];
  for (let next = `${R}/issues/7/comments?per_page=60`; next; ) {
    const { body, headers } = await ok(200, 'GET', next);
    ids.push(...body.map(({ id }) => id));
    next = /<([^>]+)>; rel="next"/.exec(headers.get('link') ?? '')?.[1];
    if (next) assert.match(next, /\/repositories\/1296269\/issues\/7\/comments\?per_page=60&page=\d/);
  }
  assert.deepEqual([ids.length, new Set(ids).size], [150, 150]);
  const { body } = await ok(200, 'GET', `${R}/issues/7/comments`);
  assert.equal(body.length, 30);
});

test('a token does what its permissions say', async () => {
  const reply = { body: { body: 'x' } };
  await ok(403, 'POST', `${R}/issues/7/comments`, { ...reply, token: 'ghs_read' });
  await control('POST', 'token', { token: 'ghs_poster', permissions: { actions: 'read', checks: 'write', statuses: 'write', pull_requests: 'write' } });
  const { body: comment } = await ok(201, 'POST', `${R}/issues/7/comments`, { ...reply, token: 'ghs_poster' });
  const refused = await ok(403, 'POST', `${R}/git/blobs`, { body: { content: 'x' }, token: 'ghs_poster' });
  assert.equal(refused.headers.get('x-accepted-github-permissions'), 'contents=write');
  await ok(403, 'POST', `${R}/issues/comments/${comment.id}/reactions`, { body: { content: 'eyes' }, token: 'ghs_poster' });
  // Not its own.
  await ok(403, 'PATCH', `${R}/issues/comments/1001`, { ...reply, token: 'ghs_poster' });
  await ok(403, 'GET', '/user');
  await ok(403, 'POST', `${R}/check-runs`, { body: { name: 'x', head_sha: SHA.head }, token: 'ghp_hubot' });
  const roles = [];
  for (const login of ['octo-boss', 'keeper', 'triager', 'stranger']) {
    const { body } = await ok(200, 'GET', `${R}/collaborators/${login}/permission`);
    roles.push(`${body.permission}/${body.role_name}`);
  }
  assert.deepEqual(roles, ['admin/admin', 'write/maintain', 'read/triage', 'read/read']);
});

test('forks look as they do on GitHub', async () => {
  const { body: run } = await ok(200, 'GET', `${R}/actions/runs/8001`);
  assert.deepEqual([run.pull_requests, run.head_repository.full_name, run.path], [[], 'mona/octo-repo', '.github/workflows/bench-pr.yml']);
  const { body: byCommit } = await ok(200, 'GET', `${R}/commits/${SHA.fork}/pulls`);
  assert.deepEqual(byCommit, []);
  const { body: byHead } = await ok(200, 'GET', `${R}/pulls?state=open&head=mona:tiles`);
  assert.deepEqual(byHead.map(({ number, head }) => [number, head.sha]), [[8, SHA.fork]]);
  // Without an owner, a head filters nothing.
  const { body: all } = await ok(200, 'GET', `${R}/pulls?state=open&head=tiles`);
  assert.equal(all.length, 3);
});

test('faults happen as often as they were asked for', async () => {
  const path = `${R}/issues/7/comments`;
  const body = { body: { body: 'once' } };
  await control('POST', 'fault', { match: 'POST .*/comments', status: 403, headers: { 'retry-after': '1' }, times: 2 });
  for (const status of [403, 403, 201]) await ok(status, 'POST', path, body);
  await control('POST', 'fault', { match: 'GET .*/comments', status: 403, headers: { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1' } });
  assert.match((await ok(403, 'GET', path)).body.message, /rate limit/);
  for (const status of [404, 410, 422, 429, 502]) {
    await control('POST', 'fault', { match: '.', status });
    await ok(status, 'GET', path);
  }
  const count = server.fake.comments.length;
  await control('POST', 'fault', { match: 'POST', status: 502, after: true });
  await ok(502, 'POST', path, body);
  assert.equal(server.fake.comments.length, count + 1, 'carried out, although the answer was lost');
  await control('POST', 'fault', { match: 'POST', status: 502 });
  await ok(502, 'POST', path, body);
  assert.equal(server.fake.comments.length, count + 1);
  await control('POST', 'fault', { match: 'GET', reset: true });
  await assert.rejects(call('GET', path));
  await control('POST', 'fault', { match: 'GET', truncate: true });
  await assert.rejects(call('GET', path));
  await control('POST', 'fault', { match: 'GET', delay_ms: 300 });
  const before = Date.now();
  await ok(200, 'GET', path);
  assert.ok(Date.now() - before >= 300);
  const { body: artifact } = await control('POST', 'artifact', { base64: Buffer.alloc(4000, 7).toString('base64') });
  await control('POST', 'fault', { match: '__download', truncate: true });
  await assert.rejects(call('GET', `${R}/actions/artifacts/${artifact.id}/zip`, { follow: true }));
  const { body: log } = await control('GET', 'log');
  assert.equal(log.filter((entry) => entry.fault).length, 14);
  await control('POST', 'set', { path: ['artifacts', 0, 'expired'], value: true });
  await ok(410, 'GET', `${R}/actions/artifacts/${artifact.id}/zip`);
});

test('a planted answer against the contract is found', async () => {
  const { comment } = server.fake;
  server.fake.comment = (one) => ({ ...comment.call(server.fake, one), id: 'seven' });
  try {
    const answer = await call('GET', `${R}/issues/comments/1001`);
    assert.equal(answer.status, 500);
    const { body } = await control('GET', 'violations');
    assert.equal(body.length, 1);
  } finally {
    delete server.fake.comment;
  }
});

test('the token goes nowhere but to the API', async () => {
  const { body: artifact } = await control('POST', 'artifact', { base64: 'UEs=' });
  await ok(200, 'GET', `${R}/actions/artifacts/${artifact.id}/zip`, { follow: true });
  const { body: log } = await control('GET', 'log');
  assert.deepEqual(log.map(({ path, authorization }) => [path.includes('__download'), authorization]), [[false, 'Bearer ghs_write'], [true, null]]);
});
