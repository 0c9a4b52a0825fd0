// Words on a line of time: what a gesture makes of them. Nothing here knows the page.
//
// Words are [{text, start, end}] in whole milliseconds, in order, none over another. Every function
// returns new words that keep to that, whatever it is asked for.

export const SHORTEST = 20; // ms of a word

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const replaced = (words, index, change) =>
  words.map((word, at) => (at === index ? { ...word, ...change } : word));

export function bounds(words, index, length) {
  return {
    low: index ? words[index - 1].end : 0,
    high: index + 1 < words.length ? words[index + 1].start : length,
  };
}

export function move(words, index, by, length) {
  const { start, end } = words[index];
  const { low, high } = bounds(words, index, length);
  const moved = clamp(Math.round(by), low - start, Math.max(low - start, high - end));
  return replaced(words, index, { start: start + moved, end: end + moved });
}

export function moveStart(words, index, by, length) {
  const { start, end } = words[index];
  const { low } = bounds(words, index, length);
  return replaced(words, index, { start: clamp(Math.round(start + by), low, end - SHORTEST) });
}

export function moveEnd(words, index, by, length) {
  const { start, end } = words[index];
  const { high } = bounds(words, index, length);
  return replaced(words, index, { end: clamp(Math.round(end + by), start + SHORTEST, Math.max(high, start + SHORTEST)) });
}

// The edge that two words share moves for both of them.
export function roll(words, index, by) {
  const [one, next] = [words[index], words[index + 1]];
  const at = clamp(Math.round(one.end + by), one.start + SHORTEST, next.end - SHORTEST);
  return replaced(replaced(words, index, { end: at }), index + 1, { start: at });
}

export const touching = (words, index) =>
  index >= 0 && index + 1 < words.length && words[index].end === words[index + 1].start;

// The nearest frame to a time.
export const snapped = (ms, fps) => Math.round((Math.round((ms * fps) / 1000) * 1000) / fps);

export const rename = (words, index, text) => replaced(words, index, { text });
export const remove = (words, index) => words.filter((_, at) => at !== index);

// A new word in the widest gap, or after the last word; the clip grows if there is no room.
export function add(words, text, length) {
  const edges = [{ end: 0 }, ...words, { start: length }];
  let widest = { from: words.length ? words.at(-1).end : 0, to: length, at: words.length };
  for (let at = 0; at <= words.length; at++) {
    const gap = { from: edges[at].end, to: edges[at + 1].start, at };
    if (gap.to - gap.from > widest.to - widest.from) widest = gap;
  }
  const room = widest.to - widest.from;
  if (room < 2 * SHORTEST) {
    const start = words.length ? words.at(-1).end : 0;
    return { words: [...words, { text, start, end: start + 300 }], length: Math.max(length, start + 400) };
  }
  const end = widest.from + Math.min(300, room);
  const made = { text, start: widest.from, end };
  return { words: [...words.slice(0, widest.at), made, ...words.slice(widest.at)], length };
}

export const fromSeconds = (list) =>
  list.map(([text, start, end]) => ({ text, start: Math.round(start * 1000), end: Math.round(end * 1000) }));
export const toSeconds = (words) => words.map(({ text, start, end }) => [text, start / 1000, end / 1000]);
export const asText = (words) =>
  words.map(({ text, start, end }) => `${text} ${(start / 1000).toFixed(3)}-${(end / 1000).toFixed(3)}`).join(" ");
