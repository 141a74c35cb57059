/** Prints a Markdown table that is readable as it is; columns after the first are right-aligned where they hold figures. */
export function printTable(headings, rows) {
  const all = [headings, ...rows].map((cells) => cells.map(String));
  const widths = headings.map((_, column) => Math.max(3, ...all.map((cells) => cells[column].length)));
  const isFigure = headings.map((_, column) => column > 0 && rows.every((cells) => /^([-+]?[\d.]+.*|–|)$/.test(String(cells[column]))));
  const line = (cells) => `| ${cells.map((cell, i) => (isFigure[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join(' | ')} |`;
  const rule = widths.map((width, i) => (isFigure[i] ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)));
  console.log([line(all[0]), line(rule), ...all.slice(1).map(line)].join('\n'));
}

/** Prints what a measurement returned: `{ title, rows?, tables?, goals, notes? }`; a table is `{ title?, headings, rows }`. */
export function printResult({ title, rows = [], tables = [], goals, notes = [] }) {
  console.log(`\n### ${title}`);
  if (rows.length > 0) printFigures(rows);
  for (const table of tables) {
    console.log(table.title ? `\n${table.title}:\n` : '');
    printTable(table.headings, table.rows);
  }
  for (const { text, value, limit, unit, verdict } of goals) {
    console.log(`\n${verdict}: ${text}: ${figure(value)} ${unit} (goal ${limit} ${unit})`);
  }
  for (const note of notes) console.log(`\n${note}`);
}

function printFigures(rows) {
  console.log('');
  printTable(
    ['', 'median', 'quartiles', 'ratio', 'difference', 'rounds'],
    rows.map((row) => [
      row.name,
      `${figure(row.median)} ${row.unit}`,
      row.quartiles.map(figure).join(' - '),
      row.ratio === undefined ? '' : row.ratio.toFixed(2),
      row.difference === undefined ? '' : `${row.difference < 0 ? '' : '+'}${figure(row.difference)}`,
      row.rounds,
    ]),
  );
}

function figure(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 1000 ? 0 : size >= 10 ? 1 : 2);
}
