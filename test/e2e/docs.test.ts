import { readdirSync, readFileSync } from 'node:fs';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ConsoleCommand, outputMatches, parseConsoleBlocks } from '../console-blocks';
import { ConsoleSession } from '../console-session';
import { busyboxTar, TestStore, temporaryDirectory } from '../fixtures';

const checkout = join(import.meta.dirname, '../..');
const examples = new Map<string, ConsoleCommand[]>();
for (const document of ['README.md', ...readdirSync(join(checkout, 'docs')).map((name) => `docs/${name}`)]) {
  if (document.endsWith('.md')) examples.set(document, parseConsoleBlocks(readFileSync(join(checkout, document), 'utf8')));
}

/** Each document is followed in a store of its own, in a directory with the root file system `rootfs.tar`. */
describe('the examples in the documents', () => {
  it('begin with those of README.md', () => {
    expect(examples.get('README.md')).not.toHaveLength(0);
  });

  for (const [document, commands] of examples) {
    if (commands.length === 0) continue;
    it(`do what ${document} shows`, async () => {
      const store = await TestStore.create();
      const cwd = await temporaryDirectory();
      await symlink(await busyboxTar(), join(cwd, 'rootfs.tar'));
      const env = { ...store.environment, PATH: `${join(checkout, 'bin')}:${process.env.PATH}:/usr/sbin:/sbin` };
      await using session = new ConsoleSession({ cwd, env });
      for (const { line, command, expected } of commands) {
        const output = await session.run(command);
        const shown = expected.join('\n');
        if (!outputMatches(expected, output)) expect.fail(`${document}:${line}: # ${command}\nshows:\n${shown}\nprints:\n${output}`);
      }
    });
  }
});
