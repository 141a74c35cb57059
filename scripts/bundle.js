// Makes dist/loopbox.js, the whole command line in one file, and dist/loopbox.cache, what V8 compiles of it: a command then starts 15 ms
// earlier than from the files of dist/. V8 takes the cache only in the version of Node that made it; any other compiles anew.
const { renameSync, rmSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { setFlagsFromString } = require('node:v8');
const { Script } = require('node:vm');
const { build } = require('esbuild');

const checkout = join(__dirname, '..');
const bundle = join(checkout, 'dist/loopbox.js');
const cache = join(checkout, 'dist/loopbox.cache');

// commander can run other programs as its subcommands. None of ours is one, and what it would need for that takes 2 ms to load.
const noSubprograms = {
  name: 'no-subprograms',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes('/node_modules/commander/') ? { path: 'none', namespace: 'no-subprograms' } : undefined,
    );
    onLoad({ filter: /^none$/, namespace: 'no-subprograms' }, () => ({ contents: 'module.exports = {};' }));
  },
};

async function link() {
  const { outputFiles } = await build({
    entryPoints: [join(checkout, 'src/cli/main.ts')],
    outfile: bundle,
    write: false,
    bundle: true,
    platform: 'node',
    target: 'node20',
    // `import()` as `require`: Node's loader of modules proper takes 4 ms to come up.
    supported: { 'dynamic-import': false },
    // Native, and only wanted by imports of archives.
    external: ['fs-ext', 'tar-stream'],
    plugins: [noSubprograms],
    // Less to read at every start, in lines that a stack trace can still point to.
    minifyWhitespace: true,
    lineLimit: 160,
    // What bin/loopbox calls.
    banner: { js: '(function (exports, module, require, __filename, __dirname) {' },
    footer: { js: '})' },
  });
  return outputFiles[0].text;
}

function compile(source) {
  // Functions are compiled when they are first called, unless V8 is told otherwise.
  setFlagsFromString('--no-lazy');
  const script = new Script(source, { filename: bundle });
  setFlagsFromString('--lazy');
  return script.createCachedData();
}

async function main() {
  const source = await link();
  writeFileSync(`${bundle}.new`, source);
  writeFileSync(`${cache}.new`, compile(source));
  // V8 tells whether a cache fits by the length of the source: an old one must not meet the new bundle.
  rmSync(cache, { force: true });
  renameSync(`${bundle}.new`, bundle);
  renameSync(`${cache}.new`, cache);
}

void main();
