/** Rows of a CSV file, without reading its values. @module */

/**
 * The records of a CSV file, some at a time, as text without line ends. A record ends at a line end outside quotes; a
 * blank one is left out.
 * @param {Blob} file
 * @param {number} size Most records at a time.
 * @returns {AsyncGenerator<string[]>}
 */
export async function* records(file, size) {
  const reader = file.stream().pipeThrough(new TextDecoderStream('utf-8', { fatal: true })).getReader();
  let rest = '';
  let found = /** @type {string[]} */ ([]);
  for (;;) {
    const { value, done } = await reader.read();
    const text = rest + (value ?? '');
    let start = 0;
    let quoted = false;
    for (let place = 0; place < text.length; place += 1) {
      const letter = text[place];
      if (letter === '"') quoted = !quoted;
      if (letter !== '\n' || quoted) continue;
      const record = text.slice(start, place).replace(/\r$/, '');
      if (record !== '') found.push(record);
      start = place + 1;
      if (found.length === size) {
        yield found;
        found = [];
      }
    }
    rest = text.slice(start);
    if (done) break;
  }
  const last = rest.replace(/\r$/, '');
  if (last !== '') found.push(last);
  if (found.length > 0) yield found;
}

/**
 * The cells of a record, to look at.
 * @param {string} record
 * @returns {string[]}
 */
export function cells(record) {
  const found = record.match(/(?:"(?:[^"]|"")*"|[^,])*(?:,|$)/g) ?? [];
  const whole = record.endsWith(',') ? found : found.slice(0, -1);
  return whole.map((cell) => cell.replace(/,$/, '').replace(/^"(.*)"$/s, '$1').replaceAll('""', '"'));
}
