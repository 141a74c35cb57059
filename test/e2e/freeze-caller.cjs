// Freezes and thaws a running container's file system, over and over, each time for a moment that the arguments tell; prints a line per round.
const { setTimeout: sleep } = require('node:timers/promises');
const { Freezer } = require('../../dist/runtime/freeze.js');
const { RunDirectory } = require('../../dist/runtime/run-directory.js');

const [runRoot, component, id, holdMs] = process.argv.slice(2);

async function freezeOnce(directory) {
  let freezer;
  try {
    freezer = await Freezer.prepare(directory, directory.readRecord());
    await freezer.sync();
    await freezer.freeze();
    await sleep(Number(holdMs));
    await freezer.thaw();
  } catch (error) {
    // What follows from the kill of the guardian.
    if (error.code !== 'ERR_LOOPBOX_FAILED') throw error;
  } finally {
    await freezer?.close();
  }
}

async function main() {
  const directory = new RunDirectory({ runRoot, component, id });
  for (;;) {
    console.log('round');
    await freezeOnce(directory);
  }
}

void main();
