// Recovers containers: a line of standard input is a directory and names in it, a line of standard output what was done, twice.
const { createInterface } = require('node:readline');
const { recover } = require('../../dist/image/recover.js');

async function answer(line) {
  const [directory, ...names] = JSON.parse(line);
  const recovered = async () => {
    const steps = [];
    for (const name of names) steps.push(...(await recover(directory, name)));
    return steps;
  };
  try {
    return { steps: await recovered(), again: await recovered() };
  } catch (error) {
    return { error: `${error.stack}\n${error.cause?.stack ?? ''}` };
  }
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await answer(line)));
}

void main();
