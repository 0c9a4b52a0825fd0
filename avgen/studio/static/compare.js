// Two to four clips in step; one of them is heard. Keys 1 to 4 choose which.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { call, content, energy, find, finished, get, known, title, useStudio } from "./api.js";

const MOST = 4;

function Difference({ players }) {
  const canvas = useRef();
  useEffect(() => {
    let frame;
    const paint = () => {
      const [one, other] = players.current;
      if (one?.videoWidth && other?.videoWidth) {
        const target = canvas.current;
        [target.width, target.height] = [one.videoWidth, one.videoHeight];
        const context = target.getContext("2d");
        context.globalCompositeOperation = "copy";
        context.drawImage(one, 0, 0, target.width, target.height);
        context.globalCompositeOperation = "difference";
        context.drawImage(other, 0, 0, target.width, target.height);
      }
      frame = requestAnimationFrame(paint);
    };
    paint();
    return () => cancelAnimationFrame(frame);
  }, []);
  return html`<canvas ref=${canvas} role="img" aria-label="difference of the first two"></canvas>`;
}

function Table({ clips, reports }) {
  const names = [...new Set(clips.flatMap((video) => Object.keys(video.avgen.request)))];
  const shown = (value) => (value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const differ = names.filter((name) => new Set(clips.map((video) => shown(video.avgen.request[name]))).size > 1);
  const sync = (video) => {
    const report = reports[video.id];
    if (!report) return "…";
    return report.scored ? `r ${report.r0.toFixed(2)}, ${Math.round(report.offset_ms)} ms (${report.interval_ms.map(Math.round).join(" to ")})` : report.reason;
  };
  const row = (name, of) => html`<tr><th scope="row">${name}</th>${clips.map((video) => html`<td>${of(video)}</td>`)}</tr>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="comparison"><table>
    <thead><tr><td></td>${clips.map((video, index) => html`<th scope="col">${index + 1}: seed ${video.avgen.seed}</th>`)}</tr></thead>
    <tbody>${row("lips and sound", sync)}${row("words", title)}${row("took", energy)}${row("length", (video) => `${video.seconds} s`)}
      ${differ.map((name) => row(name, (video) => shown(video.avgen.request[name])))}</tbody></table></div>`;
}

export function Compare({ rest }) {
  useStudio();
  const [audible, setAudible] = useState(0);
  const [playing, setPlaying] = useState(false);
  const [difference, setDifference] = useState(false);
  const [reports, setReports] = useState({});
  const players = useRef([]);
  const all = known().filter(finished);
  const asked = rest[0] ? rest[0].split(",") : all.slice(0, 2).map((video) => video.id);
  useEffect(() => { for (const id of asked) find(id).catch(() => {}); }, []);
  const clips = asked.map(get).filter((video) => video && finished(video)).slice(0, MOST);
  const ids = clips.map((video) => video.id).join(",");
  useEffect(() => {
    for (const video of clips) call(`/v1/videos/${video.id}/report`).then((report) => setReports((before) => ({ ...before, [video.id]: report }))).catch(() => {});
  }, [ids]);

  // The first one leads: the others are put right when they are more than half a frame away.
  const there = () => players.current.slice(0, clips.length).filter(Boolean);
  useEffect(() => {
    if (!playing) return;
    let frame;
    const align = () => {
      const [lead, ...rest_] = there();
      for (const other of rest_) {
        const apart = other.currentTime - lead.currentTime;
        if (Math.abs(apart) > 0.25) other.currentTime = lead.currentTime;
        else other.playbackRate = Math.abs(apart) > 0.01 ? 1 - Math.max(-0.2, Math.min(0.2, 2 * apart)) : 1;
        if (other.paused && !other.ended) other.play().catch(() => {});
      }
      frame = requestAnimationFrame(align);
    };
    align();
    return () => cancelAnimationFrame(frame);
  }, [playing, ids]);
  const seek = (to) => there().forEach((player) => { player.currentTime = to; player.playbackRate = 1; });
  const toggle = () => {
    if (playing) there().forEach((player) => player.pause());
    else {
      seek(there()[0]?.currentTime ?? 0);
      there().forEach((player) => player.play().catch(() => {}));
    }
    setPlaying(!playing);
  };
  const again = () => { seek(0); if (playing) there().forEach((player) => player.play().catch(() => {})); };
  useLayoutEffect(() => {
    const key = (event) => {
      if (event.target.closest?.("input, textarea, select")) return;
      const at = Number(event.key) - 1;
      if (at >= 0 && at < clips.length) setAudible(at);
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, [clips.length]);

  const choose = (id, on) => {
    const now = on ? [...asked, id].slice(-MOST) : asked.filter((one) => one !== id);
    location.hash = `#compare/${now.join(",")}`;
  };
  return html`<h1 tabindex="-1">Compare</h1>
    ${clips.length < 2 && html`<p>Choose two to four clips below${all.length < 2 ? "; there are none yet: make one sentence with seeds 1 2 3" : ""}.</p>`}
    <div class="row">${clips.length > 0 && html`<button class="main" onClick=${toggle}>${playing ? "Pause" : "Play all"}</button>
      <button onClick=${again}>From the start</button>`}
      ${clips.length > 1 && html`<button aria-pressed=${String(difference)} onClick=${() => setDifference(!difference)}>Difference of 1 and 2</button>`}
      <span class="soft">Keys 1 to ${Math.max(2, clips.length)} choose whose sound is heard.</span></div>
    <ul class="grid plain">${clips.map((video, index) => html`<li class="card" key=${video.id}>
      <video ref=${(player) => { players.current[index] = player; }} src=${content(video)} muted=${audible !== index} playsinline preload="auto"
        aria-label=${`seed ${video.avgen.seed}`} onEnded=${() => index === 0 && playing && again()}></video>
      <p><button aria-pressed=${String(audible === index)} onClick=${() => setAudible(index)}>${index + 1}: ${audible === index ? "heard" : "silent"}</button>
        ${" "}<a href=${`#watch/${video.id}`}>seed ${video.avgen.seed}</a></p></li>`)}
      ${difference && clips.length > 1 && html`<li class="card"><${Difference} players=${players} /></li>`}</ul>
    ${clips.length > 1 && html`<${Table} clips=${clips} reports=${reports} />`}
    <h2>Which</h2><ul class="grid plain">${all.slice(0, 24).map((video) => html`<li key=${video.id}><label>
      <input type="checkbox" checked=${asked.includes(video.id)} onChange=${(e) => choose(video.id, e.target.checked)} />
      ${" "}${title(video)}, seed ${video.avgen.seed}</label></li>`)}</ul>`;
}
