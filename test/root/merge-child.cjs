// Runs `recover` and a merge (reclaim, settle, flatten) of the container `web` in a directory with the built library, in small batches; prints what waits.
const { join } = require('node:path');
const { recover } = require('../../dist/image/recover.js');

const [directory, verb] = process.argv.slice(2);

async function main() {
  const merge = require(`../../dist/image/${verb}.js`)[verb];
  await recover(directory, 'web');
  const pending = await merge({
    name: 'web',
    containersDirectory: directory,
    templatesDirectory: join(directory, 'templates'),
    takeStructureLock: async () => ({ [Symbol.asyncDispose]: async () => {} }),
    live: async () => undefined,
    pause: async () => {},
    batchBytes: 64 * 1024,
  });
  console.log(JSON.stringify(pending));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
