// Attaches each file named on the command line, all at once; prints `{index, name}` of each and holds them until stdin ends.
const { openSync } = require('node:fs');
const addon = require('../../build/loopbox.node');

async function attach(name) {
  const options = { backingFd: openSync(name, 'r+'), name, sizeLimitBytes: 0, blockSize: 512, directIo: false, readOnly: false };
  const { index } = await addon.loopAttach(options);
  return { index, name };
}

void Promise.all(process.argv.slice(2).map(attach)).then((attached) => console.log(JSON.stringify(attached)));
process.stdin.resume().on('end', () => process.exit());
