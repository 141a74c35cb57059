/** Colours that are told apart also by who sees few of them (Okabe and Ito), the present's first. */
const palette = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#f0e442'];

/** The colour of the file with this place, as #rrggbb; behind the palette they are spread over the circle of hues. */
export function colourOf(index: number): string {
  return palette[index] ?? fromHue((index * 137.508) % 360);
}

/** The same as the nearest of a terminal's 256 colours, around `text`. */
export function coloured(text: string, colour: string): string {
  const [red, green, blue] = [1, 3, 5].map((at) => Math.round((Number.parseInt(colour.slice(at, at + 2), 16) / 255) * 5)) as [
    number,
    number,
    number,
  ];
  return `\x1b[38;5;${16 + 36 * red + 6 * green + blue}m${text}\x1b[39m`;
}

/** Whether the reader of standard output wants colours: https://no-color.org. */
export function wantsColours({ isTTY }: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): boolean {
  return isTTY === true && !environment.NO_COLOR && environment.TERM !== 'dumb';
}

/** A hue of middling saturation and lightness. */
function fromHue(hue: number): string {
  const channel = (offset: number) => {
    const k = (offset + hue / 30) % 12;
    return Math.round(255 * (0.55 - 0.3 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return `#${[0, 8, 4].map((offset) => channel(offset).toString(16).padStart(2, '0')).join('')}`;
}
