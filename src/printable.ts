const longest = 200;

/** A stranger's name for use in a message: an archive's entry may be called a megabyte. */
export function shortName(name: string): string {
  return name.length <= longest ? name : `${name.slice(0, longest)}…`;
}

/** What a terminal would obey. */
const controls = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/** The same JSON with what a terminal would obey as escapes. JSON itself escapes only what is below a space. */
export function printableJson(json: string): string {
  return json.replace(controls, (control) => (control === '\n' ? control : `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`));
}

/** Text in one line that a terminal shows and does not obey: names and configs come from strangers' files. */
export function printable(text: string): string {
  return text.replace(controls, (control) => {
    const code = control.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
  });
}
