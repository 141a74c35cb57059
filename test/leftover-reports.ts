const key = Symbol.for('loopbox.leftoverReports');

/** What the suite left behind, one text per report. The reporter and the global setup are loaded apart and meet here. */
export function leftoverReports(): string[] {
  const shared = globalThis as { [key]?: string[] };
  shared[key] ??= [];
  return shared[key];
}
