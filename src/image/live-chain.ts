/** A file of a running container's chain, as its server has it open. */
export interface LiveLayer {
  readonly slot: number;
  /** A copy of the server's descriptor, on the same open file description. */
  readonly fd: number;
  readonly device: bigint;
  readonly inode: bigint;
}

/** The server of a running container, as merges see it: what it reads from where follows what is moved. */
export interface LiveChain {
  /** Bottom first; the last is the top. The descriptors are the caller's to close. */
  layers(): Promise<LiveLayer[]>;
  /** Copies a batch of what the top lacks of the layer below it, durably. Returns the block to go on from; undefined when all is done. */
  absorbIntoTop(slot: number, fromBlock: number): Promise<number | undefined>;
  /**
   * Blocks below `block` that `slot` owns are read from `into` from now on, and none of them from `slot` any more: the image right below, or
   * the layer right above, which has them all.
   */
  movedTo(slot: number, into: number, block: number): Promise<void>;
  /** Lets go of a layer that no read needs any more. */
  drop(slot: number): Promise<void>;
}
