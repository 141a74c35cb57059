import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ConsoleCommand, outputMatches, parseConsoleBlocks } from '../console-blocks';
import { ConsoleSession } from '../console-session';
import { type FileBlock, parseFileBlocks } from '../file-blocks';
import { busyboxTar, TestStore, temporaryDirectory } from '../fixtures';

const checkout = join(import.meta.dirname, '../..');
const examples = new Map<string, { commands: ConsoleCommand[]; files: FileBlock[] }>();
for (const document of ['README.md', ...readdirSync(join(checkout, 'docs')).map((name) => `docs/${name}`)]) {
  if (!document.endsWith('.md')) continue;
  const markdown = readFileSync(join(checkout, document), 'utf8');
  examples.set(document, { commands: parseConsoleBlocks(markdown), files: parseFileBlocks(markdown) });
}

/**
 * Each document is followed in a store of its own, in a directory with the root file system `rootfs.tar`, the files that the document
 * shows, and loopbox installed for Node.
 */
describe('the examples in the documents', () => {
  it('begin with those of README.md', () => {
    expect(examples.get('README.md')?.commands).not.toHaveLength(0);
  });

  for (const [document, { commands, files }] of examples) {
    if (commands.length === 0) continue;
    it(`do what ${document} shows`, async () => {
      const store = await TestStore.create();
      const cwd = await temporaryDirectory();
      await symlink(await busyboxTar(), join(cwd, 'rootfs.tar'));
      await mkdir(join(cwd, 'node_modules'));
      await symlink(checkout, join(cwd, 'node_modules/loopbox'));
      for (const { name, content } of files) await writeFile(join(cwd, name), content);
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
