// The fake behind Prism in one process, so that ending it ends everything: client → front (faults, log, controls) →
// Prism (GitHub's description; a request or an answer against it is an error) → fake.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Fake, serveApi, serveFront } from './fake.mjs';

const require = createRequire(import.meta.url);

/** What `prism proxy --errors api.json UPSTREAM` starts. */
async function servePrism(upstream) {
  const cli = createRequire(require.resolve('@stoplight/prism-cli/package.json'));
  const { createLogger } = cli('@stoplight/prism-core');
  const { createServer } = cli('@stoplight/prism-http-server');
  const { getHttpOperationsFromSpec } = cli('@stoplight/prism-http');
  const operations = await getHttpOperationsFromSpec(fileURLToPath(new URL('./api.json', import.meta.url)));
  const server = createServer(operations, {
    cors: false,
    config: { isProxy: true, upstream: new URL(upstream), upstreamProxy: undefined, validateRequest: true, validateResponse: true, checkSecurity: true, errors: true, mock: { dynamic: false } },
    components: { logger: createLogger('PRISM', { level: 'silent' }) },
  });
  return { server, url: await server.listen(0, '127.0.0.1') };
}

/** Everything, on free ports. */
export async function serve() {
  const fake = new Fake();
  const api = await serveApi(fake);
  const prism = await servePrism(api.url);
  const front = await serveFront(fake, prism.url);
  fake.base = front.url;
  fake.downloads = api.url;
  return {
    fake,
    url: front.url,
    close: () => {
      for (const { server } of [front, api]) server.close(), server.closeAllConnections();
      return prism.server.close();
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve();
  // Whoever started this holds the other end of standard input where `--until-eof` is given, and may be killed.
  if (process.argv.includes('--until-eof')) process.stdin.resume().on('end', () => process.exit(0));
  console.log(url);
}
