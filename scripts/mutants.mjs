// Plants the faults of test/mutants, one by one, in a copy of the checkout below build/, and runs the tests that are to find each:
//   npm run test:mutants [-- NAME…]
// Ends with 1 where a fault is missed, and with 2 where a fault can't be planted or built, or a test fails without one.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const checkout = dirname(import.meta.dirname);
const copy = join(checkout, 'build/mutants');
const mutants = join(checkout, 'test/mutants');

/** A patch, with its fault in a sentence and its tests, `FILE > TITLE` or `ctest NAME`, in front of it. */
function readMutant(name) {
  const lines = readFileSync(join(mutants, `${name}.patch`), 'utf8').split('\n');
  const valuesOf = (key) => lines.filter((line) => line.startsWith(`${key}: `)).map((line) => line.slice(key.length + 2));
  return { name, fault: valuesOf('fault')[0], tests: valuesOf('test') };
}

function run(command, args, env = {}) {
  // No repository is above the copy: git would take its paths for those of the checkout.
  const environment = { ...process.env, GIT_CEILING_DIRECTORIES: dirname(copy), ...env };
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: copy,
    env: environment,
    encoding: 'utf8',
    timeout: 20 * 60_000,
    maxBuffer: 1 << 28,
  });
  if (error) throw new Error(`${command}: ${error.message}`);
  return { isDone: status === 0, output: `${stdout}${stderr}` };
}

function must(what, { isDone, output }) {
  if (!isDone) throw new Error(`${what}:\n${output}`);
}

/** Makes the copy's files those of the checkout. Only what differs is written, so that little is built. */
function copyFiles() {
  mkdirSync(copy, { recursive: true });
  const listed = spawnSync('git', ['ls-files', '-coz', '--exclude-standard'], { cwd: checkout, encoding: 'utf8', maxBuffer: 1 << 28 });
  const wanted = new Set(listed.stdout.split('\0').filter((path) => path && existsSync(join(checkout, path))));
  for (const path of wanted) {
    const [from, to] = [join(checkout, path), join(copy, path)];
    const content = readFileSync(from);
    if (existsSync(to) && readFileSync(to).equals(content)) continue;
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, content);
    chmodSync(to, statSync(from).mode);
  }
  for (const directory of ['src', 'native', 'test'])
    for (const path of readdirSync(join(copy, directory), { recursive: true }))
      if (statSync(join(copy, directory, path)).isFile() && !wanted.has(join(directory, path))) rmSync(join(copy, directory, path));
  if (!existsSync(join(copy, 'node_modules'))) symlinkSync(join(checkout, 'node_modules'), join(copy, 'node_modules'));
}

/** Undefined where the test passes, else how it fails. */
function failureOf(test) {
  return test.startsWith('ctest ') ? failureOfCtest(test.slice('ctest '.length)) : failureOfVitest(...test.split(' > '));
}

function failureOfCtest(name) {
  const { isDone, output } = run('ctest', ['--test-dir', 'build', '-R', `^${name}$`, '--no-tests=error', '--output-on-failure']);
  return isDone ? undefined : (/not so: .*/.exec(output)?.[0] ?? 'it does not end with 0');
}

function failureOfVitest(file, title = '') {
  const report = join(copy, 'build/report.json');
  rmSync(report, { force: true });
  const pattern = title.replace(/[^\w ]/g, '\\$&');
  const args = ['run', '--project', file.split('/')[1], '--reporter', 'json', '--outputFile', report, '-t', pattern, file];
  const { output } = run('node_modules/.bin/vitest', args);
  if (!existsSync(report)) throw new Error(`${file} does not run:\n${output}`);
  const results = JSON.parse(readFileSync(report, 'utf8')).testResults;
  const tests = results
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status === 'passed' || status === 'failed');
  if (tests.length === 0) throw new Error(`${file} has no test "${title}" that runs:\n${results.map(({ message }) => message).join('\n')}`);
  // What else is left on the host, or comes and goes there, is no test's verdict.
  const failure = tests.find(({ status }) => status === 'failed')?.failureMessages[0].split('\n')[0];
  if (failure?.includes('timed out')) throw new Error(`${file}: ${failure}`);
  return failure;
}

/** The test that finds it, and how; undefined where none does. */
function find({ name, tests }) {
  const patch = join(mutants, `${name}.patch`);
  must(`"${name}" does not apply`, run('git', ['apply', patch]));
  try {
    must(`"${name}" does not build`, run('scripts/build', []));
    for (const test of tests) {
      const failure = failureOf(test);
      if (failure) return `${test}: ${failure.slice(0, 200)}`;
    }
    return undefined;
  } finally {
    must(`"${name}" can't be taken back`, run('git', ['apply', '-R', patch]));
  }
}

function main(names) {
  const all = readdirSync(mutants).map((file) => file.replace(/\.patch$/, ''));
  const unknown = names.filter((name) => !all.includes(name));
  if (unknown.length > 0) throw new Error(`There is no ${unknown.join(', ')}; there is ${all.join(', ')}`);
  const chosen = (names.length > 0 ? names : all).map(readMutant);
  copyFiles();
  must('The copy does not build', run('scripts/build', []));
  for (const test of new Set(chosen.flatMap(({ tests }) => tests))) {
    const failure = failureOf(test);
    if (failure) throw new Error(`${test} fails without a fault: ${failure}`);
    console.log(`passes  ${test}`);
  }
  for (const mutant of chosen) {
    const by = find(mutant);
    console.log(by ? `found   ${mutant.name}: ${mutant.fault}\n        by ${by}` : `MISSED  ${mutant.name}: ${mutant.fault}`);
    if (!by) process.exitCode = 1;
  }
}

try {
  main(process.argv.slice(2));
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
