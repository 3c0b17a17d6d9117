/** Numbers and times as people read them. @module */

/**
 * A number with four digits, or in full if it is a large one.
 * @param {number | null | undefined} value
 */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return value.toExponential(2).replace('-', '−');
  const digits = size >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 };
  return value.toLocaleString('en', digits).replace('-', '−');
}

/**
 * A number with its sign.
 * @param {number} value
 */
export function signed(value) {
  return value > 0 ? `+${number(value)}` : number(value);
}

/**
 * A share as a percentage.
 * @param {number | null | undefined} share
 * @param {number} [digits]
 */
export function percent(share, digits = 0) {
  return share === null || share === undefined ? '–' : `${(100 * share).toFixed(digits)} %`;
}

/**
 * A time in seconds, in the unit that suits it.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  if (seconds === 0) return '0 s';
  if (seconds < 0.001) return `${number(seconds * 1e6)} µs`;
  if (seconds < 1) return `${number(seconds * 1e3)} ms`;
  if (seconds < 120) return `${number(Math.round(seconds * 10) / 10)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/**
 * A number of bytes.
 * @param {number | null | undefined} count
 */
export function bytes(count) {
  if (count === null || count === undefined) return '–';
  const unit = ['B', 'KB', 'MB', 'GB', 'TB'];
  const power = Math.min(unit.length - 1, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  return `${number(count / 1000 ** power)} ${unit[power]}`;
}

/**
 * A time of day, with the date if it is another day.
 * @param {string | null | undefined} iso
 */
export function moment(iso) {
  if (!iso) return '–';
  const time = new Date(iso);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

/**
 * A value of a feature as text. Whole numbers of four digits have no comma, since many are years.
 * @param {any} value
 */
export function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join(', ');
  if (value === null || value === undefined) return 'missing';
  if (typeof value !== 'number') return String(value);
  return Number.isInteger(value) && Math.abs(value) < 10_000 ? String(value).replace('-', '−') : number(value);
}

/**
 * Round values between two ends, for an axis.
 * @param {number} low
 * @param {number} high
 * @param {number} count About how many.
 * @returns {number[]}
 */
export function ticks(low, high, count) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((one) => one * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, place) => (first + place) * step);
}
