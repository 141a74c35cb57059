/** What long work reports while it goes on; `totalBytes` is missing where the end is not known (a pipe). */
export interface ProgressEvent {
  action: string;
  doneBytes: number;
  totalBytes?: number | undefined;
}

/** How the caller of long work follows and stops it. */
export interface WorkOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((event: ProgressEvent) => void) | undefined;
}

/** How a verb tells what is worth knowing but is no failure; the CLI prints it on stderr. */
export type Warn = (message: string) => void;
