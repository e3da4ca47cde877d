// Looks at a comment as GitHub would: parses its Mermaid charts, and renders it to a page to look at.
// Usage: node markdown.mjs FILE.md [PAGE.html]; ends with 1 when a chart does not parse.
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import MarkdownIt from 'markdown-it';
import { JSDOM } from 'jsdom';

const { window } = new JSDOM('');
Object.assign(globalThis, { window, document: window.document });
const { default: mermaid } = await import('mermaid');

export const charts = (text) => new MarkdownIt().parse(text, {}).filter(({ type, info }) => type === 'fence' && info.trim() === 'mermaid').map(({ content }) => content);
/** What is wrong with the charts of a text; nothing when all parse. */
export async function mistakes(text) {
  const found = [];
  for (const chart of charts(text)) await mermaid.parse(chart).catch((error) => found.push(`${error.message}\nin\n${chart}`));
  return found;
}
/** A page in GitHub's style. Raw HTML passes, as GitHub lets `<details>` and its like pass; GitHub's sanitizer is not here. */
export function page(text) {
  const style = fs.readFileSync(new URL('./node_modules/github-markdown-css/github-markdown-light.css', import.meta.url), 'utf8');
  return `<!doctype html><meta charset="utf-8"><style>${style} body { max-width: 860px; margin: 2em auto }</style><article class="markdown-body">${new MarkdownIt({ html: true, linkify: true }).render(text)}</article>\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , file, html] = process.argv;
  if (!file) {
    console.error('usage: node markdown.mjs FILE.md [PAGE.html]');
    process.exit(2);
  }
  const text = fs.readFileSync(file, 'utf8');
  if (html) fs.writeFileSync(html, page(text));
  const found = await mistakes(text);
  for (const mistake of found) console.error(`${file}: ${mistake}`);
  console.log(`${file}: ${charts(text).length} charts, ${found.length} of them wrong`);
  process.exit(found.length > 0 ? 1 : 0);
}
