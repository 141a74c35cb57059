type Undo = () => unknown;

/**
 * Undo steps of work that has several: `add` right after each step, `disarm` when all is done.
 * Disposal runs what is left, last in first out; every step runs even if an earlier one fails.
 */
export class CleanupStack implements AsyncDisposable {
  #steps: Undo[] = [];

  add(undo: Undo): void {
    this.#steps.push(undo);
  }

  /** Adds a handle that is closed with the stack, and returns it. */
  use<T extends AsyncDisposable>(handle: T): T {
    this.add(() => handle[Symbol.asyncDispose]());
    return handle;
  }

  /** Forgets all steps: the work is committed. */
  disarm(): void {
    this.#steps = [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (const undo of this.#steps.splice(0).reverse()) {
      try {
        await undo();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, 'Several cleanup steps failed');
  }
}
