// Gives a delta, which nobody serves, more room: its path, and bytes.
const { growDelta } = require('../../dist/image/grow-delta.js');
const { openLayer } = require('../../dist/image/layer-file.js');

async function main() {
  const [path, sizeBytes] = process.argv.slice(2);
  const file = await openLayer(path, { write: true });
  await growDelta(file, Number(sizeBytes));
  await file.close();
}

void main();
