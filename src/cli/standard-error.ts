let made: NodeJS.WriteStream | undefined;

/** Standard error, made when there is something to tell: a stream takes 2 ms to make. Where nobody listens any more, work goes on. */
export function standardError(): NodeJS.WriteStream {
  made ??= process.stderr.on('error', () => {});
  return made;
}

/** Whether all that was told has been handed over. */
export function hasToldAll(): boolean {
  return made === undefined || made.writableLength === 0;
}
