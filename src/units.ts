export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;

const powers: Record<string, number> = { '': 0, K: 1, M: 2, G: 3, T: 4, P: 5 };

/**
 * Bytes from a size as admins write it: `512M`, `10G`, `1.5GiB`, `4096`. All units are powers of 1024.
 * Returns undefined for anything else, for zero, and beyond 2^53 - 1.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:iB|B)?$/i.exec(text.trim());
  if (!match) return undefined;
  const bytes = Math.round(Number(match[1]) * 1024 ** (powers[(match[2] ?? '').toUpperCase()] ?? 0));
  return bytes > 0 && Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** `4.3 MiB`, `10 GiB`, `512 B`: at most three digits that matter. */
export function formatSize(bytes: number): string {
  let value = bytes;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1024) return `${unit === 'B' || value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} PiB`;
}

/** `3s`, `4m 05s`, `2h 07m`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${String(whole % 60).padStart(2, '0')}s`;
  return `${Math.floor(whole / 3600)}h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`;
}

export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
