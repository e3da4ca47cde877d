// Cuts GitHub's OpenAPI description down to the calls regrade makes, and closes the gaps in which the description
// allows what github.com refuses, or refuses what github.com allows. Usage: node trim.mjs api.github.com.json api.json
//
// Throws when a path disappears upstream. drift.sh says when the committed api.json is not what this makes.
import fs from 'node:fs';

const [, , source, target] = process.argv;
// Example headers lead here instead of to real hosts: nothing listens on port 9.
const BASE = 'http://127.0.0.1:9';
const R = '/repos/{owner}/{repo}';
const KEEP = {
  '/app': 'get',
  '/app/installations/{installation_id}/access_tokens': 'post',
  '/rate_limit': 'get',
  '/user': 'get',
  [R]: 'get',
  [`${R}/actions/artifacts/{artifact_id}`]: 'get',
  [`${R}/actions/artifacts/{artifact_id}/{archive_format}`]: 'get',
  [`${R}/actions/runs/{run_id}`]: 'get',
  [`${R}/actions/runs/{run_id}/artifacts`]: 'get',
  [`${R}/actions/workflows/{workflow_id}/dispatches`]: 'post',
  [`${R}/actions/workflows/{workflow_id}/runs`]: 'get',
  [`${R}/check-runs`]: 'post',
  [`${R}/check-runs/{check_run_id}`]: 'get patch',
  [`${R}/collaborators/{username}/permission`]: 'get',
  [`${R}/commits/{commit_sha}/pulls`]: 'get',
  [`${R}/commits/{ref}`]: 'get',
  [`${R}/commits/{ref}/check-runs`]: 'get',
  [`${R}/commits/{ref}/statuses`]: 'get',
  [`${R}/compare/{basehead}`]: 'get',
  [`${R}/contents/{path}`]: 'get put',
  [`${R}/git/blobs`]: 'post',
  [`${R}/git/blobs/{file_sha}`]: 'get',
  [`${R}/git/commits`]: 'post',
  [`${R}/git/commits/{commit_sha}`]: 'get',
  [`${R}/git/ref/{ref}`]: 'get',
  [`${R}/git/refs`]: 'post',
  [`${R}/git/refs/{ref}`]: 'patch delete',
  [`${R}/git/trees`]: 'post',
  [`${R}/git/trees/{tree_sha}`]: 'get',
  [`${R}/installation`]: 'get',
  [`${R}/issues/comments/{comment_id}`]: 'get patch delete',
  [`${R}/issues/comments/{comment_id}/reactions`]: 'get post',
  [`${R}/issues/{issue_number}`]: 'get',
  [`${R}/issues/{issue_number}/comments`]: 'get post',
  [`${R}/issues/{issue_number}/labels`]: 'get',
  [`${R}/pulls`]: 'get',
  [`${R}/pulls/{pull_number}`]: 'get',
  [`${R}/pulls/{pull_number}/files`]: 'get',
  [`${R}/statuses/{sha}`]: 'post',
};

const full = JSON.parse(fs.readFileSync(source, 'utf8'));
const api = {
  openapi: full.openapi,
  'x-notice': 'Cut from @octokit/openapi by trim.mjs; MIT licence, see LICENSE-octokit',
  info: full.info,
  servers: [{ url: BASE }],
  paths: {},
  components: {},
};
for (const [path, methods] of Object.entries(KEEP)) {
  for (const method of methods.split(' ')) {
    const operation = full.paths[path]?.[method];
    if (!operation) throw new Error(`${method} ${path} is not in ${source}: GitHub dropped it, or KEEP is misspelt`);
    (api.paths[path] ??= {})[method] = structuredClone(operation);
  }
}

// Overlay: whoever is not the App is refused, which the description leaves out.
for (const path of ['/app', `${R}/installation`]) {
  api.paths[path].get.responses['401'] = { $ref: '#/components/responses/requires_authentication' };
}

// Whatever the kept paths refer to, and what that refers to.
const seen = new Set();
for (const todo = [api.paths]; todo.length > 0; ) {
  const node = todo.pop();
  if (!node || typeof node !== 'object') continue;
  if (typeof node.$ref === 'string' && !seen.has(node.$ref)) {
    seen.add(node.$ref);
    const [, , kind, name] = node.$ref.split('/');
    todo.push(((api.components[kind] ??= {})[name] = structuredClone(full.components[kind][name])));
  }
  todo.push(...Object.values(node));
}

// Overlay: GitHub's own media types, which the description leaves out; Prism has no serializer for the object type.
const alias = (content) => {
  if (!content) return;
  delete content['application/vnd.github.object'];
  const json = content['application/json'];
  if (json) for (const type of ['github+json', 'github.v3+json']) content[`application/vnd.${type}`] = json;
};
for (const operations of Object.values(api.paths)) {
  for (const operation of Object.values(operations)) Object.values(operation.responses).forEach((r) => alias(r.content));
}
Object.values(api.components.responses ?? {}).forEach((response) => alias(response.content));

// Overlay: every call carries a token.
api.components.securitySchemes = { token: { type: 'http', scheme: 'bearer' } };
api.security = [{ token: [] }];

// Overlay: slashes in a path or a ref reach GitHub as they are.
for (const [path, name, most] of [['contents/{path}', 'path', 5], ['git/ref/{ref}', 'ref', 4], ['git/refs/{ref}', 'ref', 4]]) {
  for (let segments = 2; segments <= most; segments++) {
    const names = Array.from({ length: segments - 1 }, (_, index) => name + (index + 2));
    const operations = structuredClone(api.paths[`${R}/${path}`]);
    for (const operation of Object.values(operations)) {
      delete operation.operationId;
      for (const extra of names) operation.parameters.push({ name: extra, in: 'path', required: true, schema: { type: 'string' } });
    }
    api.paths[`${R}/${path}${names.map((extra) => `/{${extra}}`).join('')}`] = operations;
  }
}

// Overlay: `161335` is an integer and a string, which `oneOf` refuses.
const workflow = api.components.parameters['workflow-id'].schema;
workflow.anyOf = workflow.oneOf;
delete workflow.oneOf;

// Overlay: example headers stay on this machine.
api.components.headers.link = { schema: { type: 'string' }, example: `<${BASE}/x?page=1>; rel="last"` };
for (const header of Object.values(api.components.headers)) {
  if (typeof header.example === 'string') header.example = header.example.replace(/https:\/\/[a-z.]+/, BASE);
}

// Overlay: limits that github.com enforces and the description only tells in words, or not at all.
const body = (path, method) => api.paths[`${R}/${path}`][method].requestBody.content['application/json'].schema;
for (const schema of [body('issues/{issue_number}/comments', 'post'), body('issues/comments/{comment_id}', 'patch')]) {
  Object.assign(schema.properties.body, { minLength: 1, maxLength: 65536 });
}
body('check-runs', 'post').oneOf = [
  { properties: { status: { enum: ['completed'] } }, required: ['status', 'conclusion'] },
  { properties: { status: { enum: ['queued', 'in_progress'] } } },
];
body('statuses/{sha}', 'post').properties.description.maxLength = 140;

// Words that no check reads; OpenAPI wants a response's description, and examples are data.
const strip = (node, isResponse = false) => {
  if (!node || typeof node !== 'object') return;
  if (!isResponse && typeof node.description === 'string') delete node.description;
  delete node.externalDocs;
  for (const [key, child] of Object.entries(node)) {
    if (key === 'responses') Object.values(child).forEach((response) => strip(response, true));
    else if (key !== 'example' && key !== 'examples') strip(child);
  }
};
strip(api.paths);
for (const kind of ['schemas', 'parameters', 'headers']) strip(api.components[kind]);

// One line a path and a component: short, and a diff says what moved.
const lines = (object) =>
  `{\n${Object.keys(object)
    .sort()
    .map((key) => `${JSON.stringify(key)}: ${JSON.stringify(object[key])}`)
    .join(',\n')}\n}`;
const { paths, components, ...head } = api;
const parts = Object.entries(head).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
parts.push(`"paths": ${lines(paths)}`);
const kinds = Object.keys(components).sort().map((kind) => `${JSON.stringify(kind)}: ${lines(components[kind])}`);
parts.push(`"components": {\n${kinds.join(',\n')}\n}`);
fs.writeFileSync(target, `{\n${parts.join(',\n')}\n}\n`);
