// The lane of words: each word is a slider that mouse, touch and keys move; none runs over another.

import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import * as timeline from "./timeline.js";

const NEAR = 9; // pixels from an edge that take hold of it
const tick = (length) => [0.1, 0.2, 0.5, 1, 2, 5, 10].find((step) => length / 1000 / step <= 12) ?? 20;

export function WordLane({ words, length, fps, snap, onChange, peaks, heard }) {
  const lane = useRef();
  const [held, setHeld] = useState(null);
  const scale = () => length / lane.current.getBoundingClientRect().width;

  function take(event, index) {
    if (event.button) return;
    const box = event.currentTarget.getBoundingClientRect();
    const from = event.clientX - box.left;
    const near = Math.min(NEAR, box.width / 4);
    let edge = from < near ? "start" : box.width - from < near ? "end" : "all";
    let at = index;
    if (edge === "start" && timeline.touching(words, index - 1)) [edge, at] = ["roll", index - 1];
    else if (edge === "end" && timeline.touching(words, index)) edge = "roll";
    event.currentTarget.setPointerCapture(event.pointerId);
    event.currentTarget.focus();
    setHeld({ edge, at, x: event.clientX, before: words, moved: false });
  }

  function drag(event) {
    if (!held) return;
    let by = (event.clientX - held.x) * scale();
    const { at, before, edge } = held;
    if (snap) {
      const anchor = { all: before[at].start, start: before[at].start, end: before[at].end, roll: before[at].end }[edge];
      by = timeline.snapped(anchor + by, fps) - anchor;
    }
    const change = { all: timeline.move, start: timeline.moveStart, end: timeline.moveEnd }[edge];
    const now = edge === "roll" ? timeline.roll(before, at, by) : change(before, at, by, length);
    if (!held.moved && Math.abs(event.clientX - held.x) > 1) held.moved = true;
    onChange(now, { from: before, isDone: false });
  }

  function release() {
    if (held?.moved) onChange(words, { from: held.before, isDone: true });
    setHeld(null);
  }

  function key(event, index) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      onChange(timeline.remove(words, index), { from: words, isDone: true });
    } else if (way) {
      event.preventDefault();
      const by = way * (event.altKey ? 1 : 10);
      let now;
      if (event.shiftKey) {
        now = timeline.touching(words, index) ? timeline.roll(words, index, by) : timeline.moveEnd(words, index, by, length);
      } else if (event.ctrlKey) {
        now = timeline.touching(words, index - 1)
          ? timeline.roll(words, index - 1, by)
          : timeline.moveStart(words, index, by, length);
      } else now = timeline.move(words, index, by, length);
      onChange(now, { from: words, isDone: true });
    }
  }

  // Places are set by script: a strict policy for styles allows no style attributes.
  useLayoutEffect(() => {
    for (const part of lane.current.querySelectorAll("[data-at]")) {
      part.style.left = `${(part.dataset.at / length) * 100}%`;
      if (part.dataset.to) part.style.width = `${((part.dataset.to - part.dataset.at) / length) * 100}%`;
    }
  });

  const step = tick(length);
  const ticks = Array.from({ length: Math.floor(length / 1000 / step + 1e-6) + 1 }, (_, i) => i * step);
  return html`<div class="lane" ref=${lane}>
    ${peaks}
    ${ticks.map((at) => html`<span class="tick" data-at=${at * 1000} aria-hidden="true">${Number(at.toFixed(2))}</span>`)}
    ${words.map((word, index) => html`<div
        class="word" role="slider" tabindex="0" key=${index} data-at=${word.start} data-to=${word.end}
        aria-label=${word.text} aria-valuemin="0" aria-valuemax=${length} aria-valuenow=${word.start}
        aria-valuetext=${`${(word.start / 1000).toFixed(3)} to ${(word.end / 1000).toFixed(3)} seconds`}
        onPointerDown=${(event) => take(event, index)} onPointerMove=${drag} onPointerUp=${release}
        onPointerCancel=${release} onKeyDown=${(event) => key(event, index)}><span>${word.text}</span></div>`)}
    ${(heard ?? []).map(([text, start, end]) => html`<span class="heard" title=${`heard: ${text}`}
        data-at=${start * 1000} data-to=${end * 1000}></span>`)}
  </div>`;
}
