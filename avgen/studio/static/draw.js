// Drawings: loudness, spectrogram, curves. Canvas and SVG by hand; nothing is loaded for it.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";

function sized(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  return canvas.getContext("2d");
}

export function Waveform({ peaks, label }) {
  const ref = useRef();
  useEffect(() => {
    const paint = () => {
      const context = sized(ref.current);
      const { width, height } = ref.current;
      context.clearRect(0, 0, width, height);
      context.fillStyle = getComputedStyle(ref.current).color;
      const loudest = Math.max(0.05, ...(peaks ?? [0]));
      (peaks ?? []).forEach((peak, index) => {
        const tall = Math.max(1, (peak / loudest) * height * 0.95);
        const x = (index / peaks.length) * width;
        context.fillRect(x, (height - tall) / 2, Math.max(1, width / peaks.length - 0.5), tall);
      });
    };
    paint();
    const watcher = new ResizeObserver(paint);
    watcher.observe(ref.current);
    return () => watcher.disconnect();
  }, [peaks]);
  return html`<canvas class="wave" ref=${ref} role="img" aria-label=${label}></canvas>`;
}

// In-place radix-2 FFT of real and imaginary parts.
function fft(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j], imaginary[i], imaginary[j]] = [real[j], real[i], imaginary[j], imaginary[i]];
  }
  for (let length = 2; length <= size; length <<= 1) {
    const angle = (-2 * Math.PI) / length;
    for (let start = 0; start < size; start += length) {
      for (let k = 0; k < length / 2; k++) {
        const [a, b] = [start + k, start + k + length / 2];
        const [c, s] = [Math.cos(angle * k), Math.sin(angle * k)];
        const [re, im] = [real[b] * c - imaginary[b] * s, real[b] * s + imaginary[b] * c];
        [real[b], imaginary[b]] = [real[a] - re, imaginary[a] - im];
        [real[a], imaginary[a]] = [real[a] + re, imaginary[a] + im];
      }
    }
  }
}

export async function samplesOf(url) {
  const bytes = await (await fetch(url)).arrayBuffer();
  const context = new OfflineAudioContext(1, 1, 24000);
  return (await context.decodeAudioData(bytes)).getChannelData(0);
}

export function Spectrogram({ samples, label }) {
  const ref = useRef();
  useEffect(() => {
    if (!samples) return;
    const [size, bins, columns] = [512, 170, 400];
    const image = new ImageData(columns, bins);
    const window_ = Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
    for (let x = 0; x < columns; x++) {
      const start = Math.floor((x / columns) * Math.max(0, samples.length - size));
      const real = Float32Array.from({ length: size }, (_, i) => (samples[start + i] ?? 0) * window_[i]);
      const imaginary = new Float32Array(size);
      fft(real, imaginary);
      for (let y = 0; y < bins; y++) {
        const level = 20 * Math.log10(Math.hypot(real[y], imaginary[y]) + 1e-6);
        const share = Math.max(0, Math.min(1, (level + 50) / 80));
        const at = 4 * ((bins - 1 - y) * columns + x);
        image.data.set([255 * share ** 0.8, 190 * share ** 2, 80 + 120 * Math.sin(Math.PI * share), 255], at);
      }
    }
    const canvas = ref.current;
    [canvas.width, canvas.height] = [columns, bins];
    canvas.getContext("2d").putImageData(image, 0, 0);
  }, [samples]);
  return html`<canvas class="spectrogram" ref=${ref} role="img" aria-label=${label}></canvas>`;
}

// Lines over a shared x: [{name, points: [[x, y]]}], the first one in the accent's colour.
export function Curves({ lines, label, marks = [], height = 150 }) {
  const points = lines.flatMap((line) => line.points).filter(([, y]) => Number.isFinite(y));
  if (!points.length) return null;
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const x = (value) => 44 + ((value - left) / (right - left || 1)) * 268;
  const y = (value) => height - 22 - ((value - low) / (high - low || 1)) * (height - 32);
  const short = (value) => (Math.abs(value) >= 1000 ? value.toExponential(1) : Number(value.toPrecision(2)));
  return html`<svg class="curves" viewBox="0 0 320 ${height}" role="img" aria-label=${label}>
    <text x="40" y=${y(high) + 4} text-anchor="end">${short(high)}</text>
    <text x="40" y=${y(low) + 4} text-anchor="end">${short(low)}</text>
    <text x="44" y=${height - 6}>${short(left)}</text>
    <text x="312" y=${height - 6} text-anchor="end">${short(right)}</text>
    ${marks.map((at) => html`<line class="mark" x1=${x(at)} x2=${x(at)} y1="8" y2=${height - 20} />`)}
    ${lines.map((line, index) => html`<polyline class=${`line line${index}`}
      points=${line.points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ")}>
      <title>${line.name}</title></polyline>`)}
  </svg>`;
}
