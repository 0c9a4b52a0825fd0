// One clip: frame by frame, its words lit as they are heard, and what is known of it.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { call, content, energy, find, finished, get, known, post, say, title, useStudio } from "./api.js";
import { useSettings } from "./create.js";
import { Curves, samplesOf, Spectrogram, Waveform } from "./draw.js";
import { act, Job } from "./queue.js";

// The words over the loudness, with a cursor that follows the video.
function Track({ video, player, peaks, heard }) {
  const [at, setAt] = useState(0);
  const bar = useRef();
  const length = Number(video.seconds);
  useEffect(() => {
    let frame;
    const follow = () => {
      if (player.current) setAt(player.current.currentTime);
      frame = requestAnimationFrame(follow);
    };
    follow();
    return () => cancelAnimationFrame(frame);
  }, []);
  useEffect(() => {
    for (const part of bar.current.querySelectorAll("[data-at]")) {
      part.style.left = `${(part.dataset.at / length) * 100}%`;
      if (part.dataset.to) part.style.width = `${((part.dataset.to - part.dataset.at) / length) * 100}%`;
    }
  });
  const seek = (event) => {
    const box = bar.current.getBoundingClientRect();
    player.current.currentTime = Math.max(0, Math.min(length, ((event.clientX - box.left) / box.width) * length));
  };
  return html`<div class="lane" ref=${bar} onClick=${seek}>
    <${Waveform} peaks=${peaks} label="loudness of the clip" />
    ${(video.avgen.words ?? []).map(([text, start, end]) => html`<span class=${`word ${at >= start && at < end ? "lit" : ""}`}
      data-at=${start} data-to=${end}><span>${text}</span></span>`)}
    ${(heard ?? []).map(([, start, end]) => html`<span class="heard" data-at=${start} data-to=${end}></span>`)}
    <span class="cursor" data-at=${Math.min(at, length)}></span></div>`;
}

export function SyncReport({ report }) {
  if (!report) return html`<p class="soft">being measured …</p>`;
  if (!report.scored) return html`<p>Not measured: ${report.reason}</p>`;
  const middle = (report.curve.length - 1) / 2;
  const line = (name, curve) => ({ name, points: curve.map((value, index) => [index - middle, value]) });
  const fits = report.reliable && report.interval_ms[0] <= 45 && report.interval_ms[1] >= -45;
  return html`<p><strong class=${fits ? "good" : "bad"}>${fits ? "Lips and sound fit." : report.reliable ? "Lips and sound are apart." : "It cannot be told whether lips and sound fit."}</strong>
      ${" "}${report.words.replace(/ \[(.*), (.*)\]/, " (95 %: $1 to $2 ms)")}</p>
    <${Curves} lines=${[line("this clip", report.curve), line("control", report.control.curve)]} marks=${[0]}
      label=${`agreement by lag in frames: ${report.r0.toFixed(2)} at none; the control, ${report.control.what}, ${report.control.r0.toFixed(2)}`} />
    <p class="soft">Agreement by lag, in frames: r ${report.r0.toFixed(2)} at none, z ${report.z.toFixed(1)} over unrelated speech.
      Control (dashed), ${report.control.what}: r ${report.control.r0.toFixed(2)}, found at ${Math.round(report.control.offset_ms)} ms. ${report.protocol}</p>`;
}

function Times({ asked, heard }) {
  if (!asked?.length) return null;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="words and their times"><table><thead><tr><th scope="col">word</th><th scope="col">asked</th><th scope="col">heard</th></tr></thead>
    <tbody>${asked.map(([text, start, end], index) => html`<tr><td>${text}</td><td>${start.toFixed(2)}–${end.toFixed(2)} s</td>
      <td>${heard?.[index] ? `${heard[index][1].toFixed(2)}–${heard[index][2].toFixed(2)} s` : "–"}</td></tr>`)}</tbody></table></div>`;
}

function Watch({ video }) {
  const player = useRef();
  const [peaks, setPeaks] = useState(null);
  const [report, setReport] = useState(null);
  const [samples, setSamples] = useState(null);
  const [heard, setHeard] = useState(null);
  const fps = video.avgen.fps;
  useEffect(() => {
    call(`/v1/videos/${video.id}/peaks`).then((found) => setPeaks(found.peaks)).catch(() => {});
    call(`/v1/videos/${video.id}/report`).then(setReport).catch((error) => setReport({ scored: false, reason: error.message }));
    call(`/v1/videos/${video.id}/heard`).then((found) => setHeard(found.words)).catch(() => {});
  }, [video.id]);
  const step = (by) => {
    player.current.pause();
    const frame = Math.floor(player.current.currentTime * fps + 1e-3) + by;
    player.current.currentTime = Math.max(0, Math.min(Number(video.seconds) - 0.5 / fps, (frame + 0.5) / fps));
  };
  useLayoutEffect(() => {
    const key = (event) => {
      if (event.target.closest?.("input, textarea, select")) return;
      if (event.key === ",") step(-1);
      if (event.key === ".") step(1);
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  });
  const marks = video.avgen.provenance?.marks ?? [];
  return html`<h1 tabindex="-1">${title(video)}</h1><div class="wide">
    <div><div class="card"><video ref=${player} src=${content(video)} controls loop playsinline aria-label=${title(video)}>
        <track kind="captions" srclang="en" label="Words" src=${`/v1/videos/${video.id}/captions`} /></video></div>
      <p class="row"><button onClick=${() => step(-1)} aria-label="one frame back">◂ frame</button>
        <button onClick=${() => step(1)} aria-label="one frame on">frame ▸</button>
        <span class="soft">or keys <kbd>,</kbd> <kbd>.</kbd></span></p>
      <p><span class="badge" title="made by a model">AI</span>
        <span class="soft">${" "}${video.avgen.provenance?.c2pa ? "signed by you, not by an accredited signer" : "not signed"},
        ${" "}${marks.length ? `marked in ${marks.join(" and ")}` : "no marks"}</span></p>
      <div class="row">
        <button onClick=${() => useSettings(video)}>Use these settings</button>
        <button onClick=${() => act(post(`/v1/videos/${video.id}/retry`, { seed: video.avgen.seed + 1 }), "Queued")}>Same with the next seed</button>
        <button onClick=${() => act(post("/v1/videos/extensions", { video: { id: video.id }, speech: said(video), seed: video.avgen.seed }), "Queued")}>Go on from its end</button>
        <a class="button" href=${`#compare/${others(video).map((one) => one.id).join(",")}`}>Compare</a>
        <a class="button" href=${content(video)} download=${`${video.id}.mp4`}>Download</a></div>
    </div>
    <div><${Track} video=${video} player=${player} peaks=${peaks} heard=${heard} />
      ${samples ? html`<${Spectrogram} samples=${samples} label="spectrogram, 0 to 8 kHz" />` : html`<p><button onClick=${() => samplesOf(content(video, "audio")).then(setSamples).catch((e) => say(e.message))}>Show the spectrogram</button></p>`}
      <h2>Lips and sound</h2><${SyncReport} report=${report} />
      <h2>Words</h2><${Times} asked=${video.avgen.words} heard=${heard} />
      <h2>How it was made</h2><dl>
        <dt>seed</dt><dd>${video.avgen.seed}</dd><dt>size</dt><dd>${video.size}, ${video.seconds} s, ${fps} fps</dd>
        <dt>took</dt><dd>${energy(video)}</dd>
        ${Object.entries(video.avgen.request).filter(([name]) => !["seed"].includes(name)).map(([name, value]) => html`<dt>${name}</dt><dd>${typeof value === "string" ? value : JSON.stringify(value)}</dd>`)}
        <dt>SHA-256</dt><dd>${video.avgen.sha256}</dd></dl></div></div>`;
}

const said = (video) => (video.avgen.words ?? []).map((word) => word[0]).join(" ");
const others = (video) => [video, ...known().filter((one) => finished(one) && one.id !== video.id && said(one) === said(video))].slice(0, 3);

export function WatchSection({ rest }) {
  useStudio();
  const [missing, setMissing] = useState(null);
  const id = rest[0];
  useEffect(() => {
    if (id) find(id).catch((error) => setMissing(error.message));
  }, [id]);
  const video = id ? get(id) : known().find(finished);
  if (missing && !video) return html`<h1 tabindex="-1">Watch</h1><p class="bad">${missing}</p>`;
  if (!video) return html`<h1 tabindex="-1">Watch</h1><p class="empty">No clip is finished yet. <a href="#create">Make one</a>.</p>`;
  if (!finished(video)) return html`<h1 tabindex="-1">Watch</h1><ul class="grid jobs plain"><${Job} video=${video} /></ul>`;
  return html`<${Watch} key=${video.id} video=${video} />`;
}
