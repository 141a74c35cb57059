import { explaining } from '../errors';
import { native } from '../native';
import { attachedNumbers } from './list-loops';

/** A file as stat(2) tells it from others, whatever name it has. */
interface FileIdentity {
  device: bigint;
  inode: bigint;
}

/** The loop devices of the host, ours and others', at one moment. */
export class Attachments {
  readonly #numbers: readonly number[];
  readonly #backings: BigUint64Array;

  private constructor(numbers: readonly number[], backings: BigUint64Array) {
    this.#numbers = numbers;
    this.#backings = backings;
  }

  /** One that is detached meanwhile is left out. */
  static async read(): Promise<Attachments> {
    const numbers = attachedNumbers();
    return new Attachments(numbers, await explaining('look through the loop devices', () => native().loopBackings(numbers)));
  }

  /** Those that are attached to a file, whatever name it was attached by: `/dev/loopN`. */
  of({ device, inode }: FileIdentity): string[] {
    const isOf = (index: number) => this.#backings[2 * index] === device && this.#backings[2 * index + 1] === inode;
    return this.#numbers.filter((_, index) => isOf(index)).map((number) => `/dev/loop${number}`);
  }
}

/** The loop devices that are attached to a file now. */
export async function attachedTo(file: FileIdentity): Promise<string[]> {
  return (await Attachments.read()).of(file);
}
