// The repository that events and the fake server agree on: octo-org/octo-repo, its pull requests, commits and people.
import { createHash } from 'node:crypto';

export const sha1 = (text) => createHash('sha1').update(text).digest('hex');
const commit = (name) => sha1(`commit ${name}`);

export const OWNER = 'octo-org';
export const REPO = 'octo-repo';
export const REPO_ID = 1296269;
export const DEFAULT_BRANCH = 'main';
export const BOT = 'github-actions[bot]';

export const SHA = {
  root: commit('root'),
  base: commit('base'),
  main: commit('main'),
  before: commit('before'),
  head: commit('head'),
  fork: commit('fork'),
  stale: commit('stale'),
  twin: commit('twin'),
  merge: commit('merge'),
  queue: commit('queue'),
};

// 7: branch of the repository. 8: from a fork, waiting. 9: from a fork, closed. 10: same branch name as 8, another fork.
export const PULLS = {
  7: { title: 'Softmax in one pass', author: 'hubot', owner: OWNER, branch: 'faster-softmax', sha: SHA.head, state: 'open' },
  8: { title: 'Tile the GEMM', author: 'mona', owner: 'mona', branch: 'tiles', sha: SHA.fork, state: 'open' },
  9: { title: 'Abandoned', author: 'mona', owner: 'mona', branch: 'abandoned', sha: SHA.stale, state: 'closed' },
  10: { title: 'Tiles, too', author: 'lisa', owner: 'lisa', branch: 'tiles', sha: SHA.twin, state: 'open' },
};

// What the repository says of people; everybody else may read, because it is public.
export const PEOPLE = { 'octo-boss': 'admin', hubot: 'write', keeper: 'maintain', triager: 'triage' };

// Runs of the workflow `.github/workflows/bench-pr.yml`: of pull request 7, of 8, one older than 8's head, one forged.
export const RUNS = {
  7001: { pull: 7, sha: SHA.head, event: 'pull_request', conclusion: 'success' },
  8001: { pull: 8, sha: SHA.fork, event: 'pull_request', conclusion: 'success' },
  8000: { pull: 8, sha: SHA.stale, event: 'pull_request', conclusion: 'success' },
  8002: { pull: 8, sha: SHA.fork, event: 'push', conclusion: 'success' },
};
export const WORKFLOWS = {
  'bench-pr.yml': { id: 161335, name: 'Benchmark', dispatch: true },
  'bench-gpu.yml': { id: 161336, name: 'Benchmark on GPU', dispatch: true },
  'bench-tpu.yml': { id: 161337, name: 'Benchmark on TPU', dispatch: true },
};
