import type { ProgressEvent } from '../progress';
import { formatDuration, formatSize } from '../units';
import { standardError } from './standard-error';

/** Shows long work on stderr: one line that rewrites itself on a terminal, or a line every two seconds (`plain`). */
export class ProgressPrinter {
  readonly #mode: 'line' | 'plain' | 'none';
  #action: string | undefined;
  #startedAt = 0;
  #shownAt = 0;
  #lineShown = false;

  constructor(mode: 'auto' | 'plain' | 'none') {
    this.#mode = mode === 'auto' ? (standardError().isTTY ? 'line' : 'none') : mode;
  }

  show(event: ProgressEvent): void {
    if (this.#mode === 'none') return;
    const now = Date.now();
    if (event.action !== this.#action) {
      this.#action = event.action;
      this.#startedAt = now;
      this.#shownAt = 0;
    }
    const done = event.doneBytes === event.totalBytes;
    if (!done && now - this.#shownAt < (this.#mode === 'line' ? 100 : 2000)) return;
    this.#shownAt = now;
    const line = progressLine(event, (now - this.#startedAt) / 1000);
    standardError().write(this.#mode === 'line' ? `\r\x1b[K${line}` : `${line}\n`);
    this.#lineShown = this.#mode === 'line';
  }

  /** Takes the line away before something else is printed. */
  clear(): void {
    if (this.#lineShown) standardError().write('\r\x1b[K');
    this.#lineShown = false;
  }
}

/** `copying 1.2 GiB of 4 GiB (30%), 410 MiB/s, 7s left`. */
export function progressLine(event: ProgressEvent, seconds: number): string {
  const { action, doneBytes, totalBytes } = event;
  const rate = seconds > 0 ? doneBytes / seconds : 0;
  const parts = [
    totalBytes
      ? `${action} ${formatSize(doneBytes)} of ${formatSize(totalBytes)} (${Math.floor((doneBytes / totalBytes) * 100)}%)`
      : `${action} ${formatSize(doneBytes)}`,
  ];
  if (rate > 0) parts.push(`${formatSize(rate)}/s`);
  if (rate > 0 && totalBytes) parts.push(`${formatDuration((totalBytes - doneBytes) / rate)} left`);
  return parts.join(', ');
}
