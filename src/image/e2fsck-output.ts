/** One thing that e2fsck asked about, and its answer. Without one it only told. */
export interface Finding {
  text: string;
  question?: string;
}

/** What e2fsck says of a file system while it goes on, and when it ends. */
const chatter =
  /^(e2fsck \d|Pass \d|\d\. |\S+: (recovering journal|clean,|\d+\/\d+ files|\*+ )|Restarting e2fsck|Running additional passes|\S+ was not cleanly unmounted|\s*$)/;

/** Takes the output of `e2fsck -n` or `-y` apart: what lies between two answers is one finding. */
export function parseFindings(output: string): Finding[] {
  const findings: Finding[] = [];
  let words: string[] = [];
  for (const line of output.split('\n')) {
    if (chatter.test(line)) {
      // What was told without a question ends with its paragraph, or with the pass.
      if (words.length > 0) findings.push({ text: words.join(' ') });
      words = [];
      continue;
    }
    const [, before = '', question] = /^(.*?)([A-Z][^.?]*)\? (?:yes|no)\b/.exec(line) ?? [];
    words.push((question === undefined ? line : before).trim());
    if (question === undefined) continue;
    findings.push({ text: words.filter(Boolean).join(' ') || question, question });
    words = [];
  }
  if (words.length > 0) findings.push({ text: words.join(' ') });
  return findings;
}

/** Answers of e2fsck that throw nothing away: counters, bitmaps, what it can work out again. */
const harmless = /^(Fix|Allocate|Relocate|Expand|Create|Split|Continue|Optimize|Clear HTree index|Clear flag|Suppress messages)$/;

/**
 * Whether a "yes" to it may have thrown data away, or tells of data that is gone. What is not known to be harmless is not; the journal holds
 * what was not yet written anywhere else.
 */
export function losesData({ text, question }: Finding): boolean {
  if (question === undefined) return /journal has been deleted|error reading|aborted/i.test(text);
  return !harmless.test(question) || /journal/i.test(text);
}
