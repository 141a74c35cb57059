/** A file that a document has its reader make: a block that begins with ```` ```js example.mjs ````. */
export interface FileBlock {
  name: string;
  content: string;
}

/** The files in a document, in order. Blocks without a file's name are none. */
export function parseFileBlocks(markdown: string): FileBlock[] {
  return [...markdown.matchAll(/^```\w+ (\S+\.\w+)\n(.*?)^```$/gms)].map(([, name = '', content = '']) => ({ name, content }));
}
