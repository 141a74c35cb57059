import { writeSync } from 'node:fs';
import type { SerializedError } from 'vitest';
import type { Reporter, TestModule } from 'vitest/node';
import { leftoverReports } from './leftover-reports';

/**
 * Ends the output with `N passed, N failed` (and `, N skipped`), alone on a line. A file that can't be loaded, an error
 * outside a test and a report of leftovers count as a failure each.
 */
export default class CountsReporter implements Reporter {
  #passed = 0;
  #failed = 0;
  #skipped = 0;

  onInit(): void {
    // The leftovers are known only when every reporter has had its last call.
    process.once('exit', () => {
      const failed = this.#failed + leftoverReports().length;
      const skipped = this.#skipped > 0 ? `, ${this.#skipped} skipped` : '';
      writeSync(1, `${this.#passed} passed, ${failed} failed${skipped}\n`);
    });
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    this.#passed = this.#failed = this.#skipped = 0;
    for (const module of modules) {
      if (module.errors().length > 0) this.#failed++;
      for (const suite of module.children.allSuites()) if (suite.errors().length > 0) this.#failed++;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') this.#passed++;
        else if (state === 'failed') this.#failed++;
        else this.#skipped++;
      }
    }
    this.#failed += unhandledErrors.length;
  }
}
