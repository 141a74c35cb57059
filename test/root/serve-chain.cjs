// Serves a chain of an image and deltas with the built library, prints a line, and holds the device for ever.
const { constants, openSync } = require('node:fs');
const { startStackServer } = require('../../dist/loop/stack-server.js');

module.exports = async ({ paths, sizeBytes, mapOffset, dataOffset, control, log, label }) => {
  const layers = paths.map((path, index) => {
    const isTop = index === paths.length - 1;
    const fd = openSync(path, isTop ? constants.O_RDWR | constants.O_DIRECT : constants.O_RDONLY);
    const geometry = index === 0 ? { kind: 'image', mapOffset: 0, dataOffset: 0 } : { kind: 'delta', mapOffset, dataOffset };
    return { fd, sizeBytes, ...geometry };
  });
  await startStackServer({
    label,
    controlPath: control,
    logPath: log,
    layers,
    sizeBytes,
    moveToCgroup: () => {},
    warn: console.error,
  });
  console.log('attached');
  setInterval(() => {}, 1000);
};
