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

function Position({ players, length, seek }) {
  const [at, setAt] = useState(0);
  useEffect(() => {
    let frame;
    const follow = () => {
      setAt(Math.min(length, players.current[0]?.currentTime ?? 0));
      frame = requestAnimationFrame(follow);
    };
    follow();
    return () => cancelAnimationFrame(frame);
  }, [length]);
  return html`<label class="seek">At ${at.toFixed(2)} of ${length.toFixed(2)} s<input type="range" min="0" max=${length} step="0.04"
    value=${at} aria-valuetext=${`${at.toFixed(2)} seconds`} onInput=${(event) => seek(Number(event.target.value))} /></label>`;
}

function Table({ clips, reports }) {
  const names = [...new Set(clips.flatMap((video) => Object.keys(video.avgen.request)))];
  const shown = (value) => (value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const differ = names.filter((name) => !["seed", "speech", "words", "seconds"].includes(name) && new Set(clips.map((video) => shown(video.avgen.request[name]))).size > 1);
  const sync = (video) => {
    const report = reports[video.id];
    if (!report) return "…";
    return report.scored ? `r ${report.r0.toFixed(2)}, ${Math.round(report.offset_ms)} ms (${report.interval_ms.map(Math.round).join(" to ")})` : report.reason;
  };
  const row = (name, of) => html`<tr><th scope="row">${name}</th>${clips.map((video) => html`<td>${of(video)}</td>`)}</tr>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="comparison"><table>
    <thead><tr><td></td>${clips.map((video, index) => html`<th scope="col">${index + 1}: seed ${video.avgen.seed}</th>`)}</tr></thead>
    <tbody>${row("lips and sound", sync)}${row("words", title)}${row("took", energy)}${row("length", (video) => `${video.seconds} s`)}
      ${differ.map((name) => row(name.replaceAll("_", " "), (video) => shown(video.avgen.request[name])))}</tbody></table></div>`;
}

export function Compare({ rest }) {
  useStudio();
  const [audible, setAudible] = useState(0);
  const [playing, setPlaying] = useState(false);
  const seeks = useRef(0);
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

  // The one that is heard leads; the others, silent, are hurried or slowed until they are with it.
  const there = () => players.current.slice(0, clips.length).filter(Boolean);
  const length = Math.min(...clips.map((video) => Number(video.seconds)));
  useEffect(() => {
    if (!playing) return;
    let frame;
    const align = () => {
      const all = there();
      const lead = all[audible] ?? all[0];
      frame = requestAnimationFrame(align);
      if (seeks.current) return;
      if (lead.currentTime > length - 0.02) return seek(0);
      for (const other of all.filter((one) => one !== lead)) {
        const apart = other.currentTime - lead.currentTime;
        if (Math.abs(apart) > 0.25) other.currentTime = lead.currentTime;
        else other.playbackRate = Math.abs(apart) > 0.01 ? Math.max(0.5, Math.min(2, 1 - 6 * apart)) : 1;
        if (other.paused && !other.ended) other.play().catch(() => {});
      }
    };
    align();
    return () => cancelAnimationFrame(frame);
  }, [playing, ids, audible]);
  // All stand still until all are there, and go on together.
  const seek = async (to, play = playing) => {
    seeks.current += 1;
    await Promise.all(there().map((player) => {
      player.pause();
      player.playbackRate = 1;
      player.currentTime = to;
      return player.seeking && new Promise((done) => player.addEventListener("seeked", done, { once: true }));
    }));
    seeks.current -= 1;
    if (play && !seeks.current) there().forEach((player) => player.play().catch(() => {}));
  };
  const toggle = () => {
    if (playing) there().forEach((player) => player.pause());
    else seek(there()[0].currentTime % length, true);
    setPlaying(!playing);
  };
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
    ${clips.length < 2 && html`<p class="empty">${all.length < 2 ? html`There are not two clips yet: <a href="#create">make one sentence</a> with seeds 1 2 3.` : "Choose two to four clips below."}</p>`}
    <div class="row">${clips.length > 0 && html`<button class="main" onClick=${toggle}>${playing ? "Pause" : "Play all"}</button>
      <button onClick=${() => seek(0)}>From the start</button>
      <${Position} players=${players} length=${length} seek=${seek} />`}
      ${clips.length > 1 && html`<button aria-pressed=${String(difference)} onClick=${() => setDifference(!difference)}>Difference of 1 and 2</button>`}
      ${clips.length > 1 && html`<span class="soft"><kbd>1</kbd> to <kbd>${clips.length}</kbd> whose sound is heard</span>`}</div>
    <ul class="grid fit plain">${clips.map((video, index) => html`<li class="card" key=${video.id}>
      <video ref=${(player) => { players.current[index] = player; }} src=${content(video)} muted=${audible !== index} playsinline preload="auto"
        aria-label=${`seed ${video.avgen.seed}`} onEnded=${() => playing && seek(0)}></video>
      <p class="row tight"><button aria-pressed=${String(audible === index)} onClick=${() => setAudible(index)}>${index + 1}: ${audible === index ? "heard" : "silent"}</button>
        ${" "}<a href=${`#watch/${video.id}`}>seed ${video.avgen.seed}</a></p></li>`)}
      ${difference && clips.length > 1 && html`<li class="card"><${Difference} players=${players} /></li>`}</ul>
    ${clips.length > 1 && html`<${Table} clips=${clips} reports=${reports} />`}
    ${all.length > 0 && html`<h2>Which</h2><ul class="grid plain">${all.slice(0, 24).map((video) => html`<li key=${video.id}><label class="pick">
      <input type="checkbox" checked=${asked.includes(video.id)} onChange=${(e) => choose(video.id, e.target.checked)} />
      <img src=${content(video, "thumbnail")} alt="" loading="lazy" /><span>${title(video)}<br /><span class="soft">seed ${video.avgen.seed}</span></span></label></li>`)}</ul>`}`;
}
