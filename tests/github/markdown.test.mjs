// The chart check lets good charts through and finds bad ones.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { charts, mistakes, page } from './markdown.mjs';

const chart = (values) => `text\n\n\`\`\`mermaid\nxychart-beta\n  x-axis [a, b]\n  y-axis "s" 0 --> 4\n  line [${values}]\n\`\`\`\n`;
test('charts parse', async () => {
  assert.equal(charts(chart('1, 2')).length, 1);
  assert.deepEqual(await mistakes(chart('1, 2')), []);
  assert.equal((await mistakes(chart('1, NaN'))).length, 1);
  assert.deepEqual(await mistakes('no charts'), []);
});
test('pages render', () => {
  assert.match(page('<details><summary>x</summary>\n\n| a |\n| - |\n| 1 |\n\n</details>'), /<details>[\s\S]*<table>/);
});
