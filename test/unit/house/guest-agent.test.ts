import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { cleanUp, temporaryDirectory } from '../../temporary';

const program = join(import.meta.dirname, '../../guest/agent');

it('the agent of a guest runs whole scripts, also where orphans end while it reads them', async () => {
  const agent = spawn(program, [await temporaryDirectory()], { stdio: ['ignore', 'inherit', 'inherit', 'pipe'] });
  cleanUp(() => void agent.kill('SIGKILL'));
  const port = agent.stdio[3] as Duplex;
  const answers = createInterface({ input: port })[Symbol.asyncIterator]();
  expect((await answers.next()).value).toBe('ready');
  const script = 'echo out; echo err >&2; exit 7';
  for (const character of `${Buffer.from(script).toString('base64')}\n`) {
    // It has read what came before, and waits.
    await sleep(5);
    agent.kill('SIGCHLD');
    port.write(character);
  }
  const [code, stdout = '', stderr = '', bytes] = ((await answers.next()).value as string).split(',');
  const texts = [stdout, stderr].map((base64) => Buffer.from(base64, 'base64').toString());
  expect([code, ...texts, bytes]).toEqual(['7', 'out\n', 'err\n', String(script.length)]);
});
