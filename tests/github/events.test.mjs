// Event payloads keep GitHub's schema, are what events.mjs makes, and say what they are meant to say.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import Ajv from 'ajv';
import addFormats from 'ajv-formats';
import { EVENTS, readme } from './events.mjs';

const read = (file) => fs.readFileSync(new URL(`./events/${file}`, import.meta.url), 'utf8');
const schema = JSON.parse(fs.readFileSync(new URL('./node_modules/@octokit/webhooks-schemas/schema.json', import.meta.url), 'utf8'));
const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);
ajv.addSchema(schema, 'webhooks');
const validator = (name) => ajv.getSchema(`webhooks#/definitions/${name}`);

test('the folder holds these files and no others', () => {
  const files = fs.readdirSync(new URL('./events/', import.meta.url)).sort();
  assert.deepEqual(files, [...Object.keys(EVENTS), 'README.md'].sort());
  assert.equal(read('README.md'), readme(), 'run `node tests/github/events.mjs`');
});
for (const [file, { schema, make }] of Object.entries(EVENTS)) {
  test(file, () => {
    const event = JSON.parse(read(file));
    assert.deepEqual(event, make(), 'run `node tests/github/events.mjs`');
    if (!schema) return;
    const validate = validator(schema);
    assert.ok(validate, `the schema has no ${schema}`);
    assert.ok(validate(event), JSON.stringify(validate.errors?.slice(0, 3), null, 1));
  });
}
test('a payload without a commit is refused', () => {
  const event = JSON.parse(read('workflow_run.fork.json'));
  delete event.workflow_run.head_sha;
  assert.equal(validator('workflow_run$completed')(event), false);
});
test('forks are forks', () => {
  const pull = JSON.parse(read('pull_request.fork.json'));
  assert.notEqual(pull.pull_request.head.repo.full_name, pull.repository.full_name);
  const run = JSON.parse(read('workflow_run.fork.json')).workflow_run;
  assert.deepEqual([run.event, run.pull_requests, run.head_repository.full_name], ['pull_request', [], 'mona/octo-repo']);
  const own = JSON.parse(read('pull_request.opened.json'));
  assert.equal(own.pull_request.head.repo.full_name, own.repository.full_name);
});
