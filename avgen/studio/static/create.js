// A sentence in, clips in the queue out; the words' times are the user's if they touch them.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { content, finished, known, post, running, say, seconds, status, title, upload, useStudio, waiting } from "./api.js";
import { Waveform } from "./draw.js";
import { Job } from "./queue.js";
import * as timeline from "./timeline.js";
import { WordLane } from "./words.js";

const GIVEN = {
  image: ["First picture", "image/png,image/jpeg,image/webp"],
  audio: ["A voice: all the sound", "audio/*"],
  video: ["A silent video: all the picture", "video/*"],
  extend: ["A beginning to go on from", "video/*"],
  voice: ["A voice to sound like", "audio/*"],
  face: ["A face to look like", "image/png,image/jpeg,image/webp"],
};
const PLAIN = ["prompt", "speech", "words", "seconds", "seed", "width", "height", "num_inference_steps", "num_frames"];
const EMPTY = { prompt: "a young woman with long red hair", speech: "the train leaves at 7:30", seeds: "1", fields: {}, words: null, length: null, given: {} };

const load = () => {
  try {
    return { ...EMPTY, ...JSON.parse(localStorage.getItem("draft") ?? "{}") };
  } catch {
    return { ...EMPTY };
  }
};

// Another clip's settings, for the next visit of this section.
export function useSettings(video, change = {}) {
  const { prompt = "", speech = "", words = null, seed = 0, ...rest } = video.avgen.request;
  const quoted = [...prompt.matchAll(/["“](.*?)["”]/g)].map((match) => match[1]).join(" ");
  const looks = prompt.replace(/\s*(says?|saying)?\s*["“].*?["”]/g, "").trim();
  const given = Object.fromEntries(Object.entries(rest).filter(([name]) => GIVEN[name]));
  const fields = Object.fromEntries(Object.entries(rest).filter(([name]) => !GIVEN[name]));
  for (const name of Object.keys(given)) given[name] = null; // what was given is not handed out again
  const said = speech || quoted || (words ?? []).map((word) => word[0]).join(" ");
  const draft = { ...EMPTY, prompt: looks, speech: said, seeds: String(seed), fields, given: {},
    words: words && timeline.fromSeconds(words), length: Math.round(Number(video.seconds) * 1000), ...change };
  localStorage.setItem("draft", JSON.stringify(draft));
  location.hash = "#create";
}

export const parseSeeds = (text) =>
  text.split(/[\s,]+/).filter(Boolean).flatMap((part) => {
    const range = part.match(/^(\d+)-(\d+)$/);
    if (range) return Array.from({ length: Math.min(16, range[2] - range[1] + 1) }, (_, i) => Number(range[1]) + i);
    return /^-?\d+$/.test(part) ? [Number(part)] : [NaN];
  });

export function Create() {
  useStudio();
  const [draft, setDraft] = useState(load);
  const [auto, setAuto] = useState(null);
  const [fault, setFault] = useState(null);
  const [unsaid, setUnsaid] = useState(null); // why the words cannot be timed
  const [past, setPast] = useState([]);
  const [future, setFuture] = useState([]);
  const [snap, setSnap] = useState(false);
  const [peaks, setPeaks] = useState(null);
  const [agreed, setAgreed] = useState(false);
  const asking = useRef(0);
  const sending = useRef(false);
  const keys = useRef({}); // of what was sent and not yet all queued: sent again, it is not queued twice
  const model = status.model?.avgen;
  const defaults = model?.defaults;
  const fps = Number(draft.fields.fps) || defaults?.fps || 25;

  const set = (change) =>
    setDraft((before) => {
      const now = { ...before, ...change };
      localStorage.setItem("draft", JSON.stringify({ ...now, given: {} }));
      return now;
    });
  const field = (name, value) => {
    const fields = { ...draft.fields };
    if (value === "" || value === null) delete fields[name];
    else fields[name] = value;
    set({ fields });
  };

  // The lane's first state: when the model itself would say the words.
  useEffect(() => {
    setUnsaid(null);
    if (!draft.speech.trim()) return setAuto(null);
    const mine = ++asking.current;
    const timer = setTimeout(async () => {
      try {
        const asked = { speech: draft.speech };
        if (draft.fields.seconds) asked.seconds = Number(draft.fields.seconds);
        if (draft.fields.rate) asked.rate = Number(draft.fields.rate);
        const found = await post("/v1/speech/timeline", asked);
        if (mine === asking.current) setAuto(found);
      } catch (error) {
        if (mine !== asking.current) return;
        setAuto(null);
        setUnsaid(error.message);
      }
    }, 250);
    return () => clearTimeout(timer);
  }, [draft.speech, draft.fields.seconds, draft.fields.rate]);

  const words = draft.words ?? (auto ? timeline.fromSeconds(auto.words) : []);
  const length = Math.max(
    draft.words && draft.length ? draft.length : Math.round((auto?.seconds ?? 3) * 1000),
    words.at(-1)?.end ?? 0,
  );

  function change(now, { from, isDone }) {
    if (isDone) {
      setPast([...past, draft.words === null && !past.length ? null : from].slice(-200));
      setFuture([]);
    }
    set({ words: now, length });
  }
  const undo = () => {
    if (!past.length) return;
    setFuture([...future, words]);
    set({ words: past.at(-1), length });
    setPast(past.slice(0, -1));
  };
  const redo = () => {
    if (!future.length) return;
    setPast([...past, words]);
    set({ words: future.at(-1), length });
    setFuture(future.slice(0, -1));
  };
  const shortcuts = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.preventDefault();
      if (event.shiftKey) redo();
      else undo();
    }
  };

  async function give(name, file) {
    if (!file) {
      const given = { ...draft.given };
      delete given[name];
      if (name === "audio") setPeaks(null);
      return set({ given });
    }
    try {
      const kept = await upload(file);
      set({ given: { ...draft.given, [name]: { id: kept.id, name: file.name } } });
      setFault(null);
      if (name === "audio") setPeaks((await post("/v1/peaks", { file: kept.id })).peaks);
    } catch (error) {
      setFault(error.message);
    }
  }

  async function submit(event) {
    event.preventDefault();
    const seeds = parseSeeds(draft.seeds);
    if (!seeds.length || seeds.some(Number.isNaN)) return setFault("Seeds are whole numbers, as 1 2 3 or 1-4.");
    const body = { ...draft.fields, prompt: draft.prompt };
    for (const [name, kept] of Object.entries(draft.given)) body[name] = kept.id;
    if (draft.words) {
      body.words = timeline.toSeconds(draft.words);
      if (!body.seconds && !body.num_frames && !body.audio && !body.video) body.seconds = length / 1000;
    } else if (draft.speech.trim()) body.speech = draft.speech;
    if (sending.current) return;
    sending.current = true;
    try {
      for (const seed of seeds) {
        const asked = { ...body, seed };
        const key = (keys.current[JSON.stringify(asked)] ??= `${Date.now()}-${Math.random()}`);
        await post("/v1/videos", asked, { "Idempotency-Key": key });
      }
      keys.current = {};
      setFault(null);
      say(`${seeds.length} queued`);
    } catch (error) {
      if (error.code === "not_found") keys.current = {}; // a clip of before was removed meanwhile
      setFault(error.message);
    } finally {
      sending.current = false;
    }
  }

  const size = [Number(draft.fields.width) || defaults?.width, Number(draft.fields.height) || defaults?.height];
  const steps = Number(draft.fields.num_inference_steps) || defaults?.steps;
  const work = (Number(draft.fields.seconds) || length / 1000) * fps * size[0] * size[1] * steps;
  const cost = status.queue?.s_per_step_pixel;
  const given = Object.keys(draft.given).length > 0;
  const schema = model?.schema.properties ?? {};
  const jobs = known().filter((video) => running(video) || waiting(video))
    .sort((a, b) => (a.avgen.queue_position ?? -1) - (b.avgen.queue_position ?? -1)).slice(0, 6);
  const recent = known().filter(finished).slice(0, 3);
  const alike = known().filter((video) => finished(video) && title(video) === title(recent[0])).slice(0, 3);
  const number = (name, label, placeholder, step = "any") => html`<label>${label}<input type="number" step=${step} name=${name}
    placeholder=${placeholder} value=${draft.fields[name] ?? ""} onInput=${(e) => field(name, e.target.value && Number(e.target.value))} /></label>`;

  return html`<h1 tabindex="-1">Create</h1><div class="wide side">
  <form onSubmit=${submit} onKeyDown=${shortcuts}>
    <label>What is said<textarea name="speech" rows="2" value=${draft.speech}
      onInput=${(e) => { set({ speech: e.target.value, words: null }); setPast([]); setFuture([]); }}></textarea></label>
    ${unsaid ? html`<p class="bad" role="alert">${unsaid}</p>` : html`<p class="soft">${draft.words ? "The words are timed by you." : draft.given.audio && defaults?.listens ? "The words are found in the given voice when the clip is made; drag one to time it yourself." : "The words are timed by the model; drag one, or move it with the arrow keys, to time it yourself."}</p>`}
    <${WordLane} words=${words} length=${length} fps=${fps} snap=${snap} onChange=${change}
      peaks=${peaks && html`<${Waveform} peaks=${peaks} label="loudness of the given voice" />`} />
    <div class="row" role="group" aria-label="The words">
      <button type="button" onClick=${undo} disabled=${!past.length}>Undo</button>
      <button type="button" onClick=${redo} disabled=${!future.length}>Redo</button>
      <button type="button" onClick=${() => { set({ words: null, length: null }); setPast([]); setFuture([]); }} disabled=${!draft.words}>As the model times them</button>
      <button type="button" aria-pressed=${String(snap)} onClick=${() => setSnap(!snap)}>Snap to frames</button>
      <details><summary>Keys</summary><p class="soft">Arrows move a word by 10 ms; with Shift its end, with Ctrl its start; with Alt by 1 ms.
        Delete takes it away. An edge that two words share moves for both. Ctrl+Z undoes.</p></details>
    </div>
    <p class="soft"><output class="times">${timeline.asText(words)}</output></p>
    <label>How it looks and sounds<input type="text" name="prompt" value=${draft.prompt} onInput=${(e) => set({ prompt: e.target.value })} /></label>
    <div class="row">
      <label>Seeds<input type="text" name="seeds" value=${draft.seeds} onInput=${(e) => set({ seeds: e.target.value })} /></label>
      ${number("seconds", "Seconds", (length / 1000).toFixed(2))}
      ${number("width", "Width", defaults?.width, "2")}
      ${number("height", "Height", defaults?.height, "2")}
      ${number("num_inference_steps", "Steps", defaults?.steps, "1")}
    </div>
    <details><summary>Give it something</summary>
      <div class="given">${Object.entries(GIVEN).filter(([name]) => defaults?.references || !["voice", "face"].includes(name)).map(([name, [label, accept]]) => html`
        <div class="drop" onDragOver=${(e) => e.preventDefault()} onDrop=${(e) => { e.preventDefault(); give(name, e.dataTransfer.files[0]); }}>
          <label>${label}<input type="file" name=${name} accept=${accept} onChange=${(e) => give(name, e.target.files[0])} /></label>
          ${draft.given[name] && html`<p>${draft.given[name].name} <button type="button" onClick=${() => give(name, null)}>Remove</button></p>`}
        </div>`)}</div>
    </details>
    ${given && html`<p><label><input type="checkbox" required checked=${agreed} onChange=${(e) => setAgreed(e.target.checked)} />
      ${" "}Whoever is seen or heard in what I give agrees, and I say of the clip that it is AI.</label></p>`}
    <details><summary>Advanced</summary><div class="row">
      ${Object.entries(schema).filter(([name]) => !PLAIN.includes(name) && !GIVEN[name]).map(([name, about]) =>
        about.enum
          ? html`<label title=${about.description}>${name.replaceAll("_", " ")}<select name=${name} onChange=${(e) => field(name, e.target.value)}>
              <option value="">the model's</option>${about.enum.map((value) => html`<option selected=${draft.fields[name] === value}>${value}</option>`)}</select></label>`
          : about.type === "string" || about.type === "array" || Array.isArray(about.type)
            ? html`<label title=${about.description}>${name.replaceAll("_", " ")}<input type="text" name=${name}
                value=${draft.fields[name] ?? ""} onInput=${(e) => field(name, e.target.value)} /></label>`
            : number(name, name.replaceAll("_", " "), about.default ?? defaults?.[name] ?? ""))}
    </div></details>
    ${fault && html`<p class="bad" role="alert">${fault}</p>`}
    <div class="row"><button class="main" type="submit">Make</button>
      <span class="soft">${cost ? `about ${seconds(cost * work)} a clip here` : "how long a clip takes is known after the first"}</span></div>
  </form>
  <aside>${jobs.length > 0 && html`<h2>Being made</h2><ul class="grid jobs plain">${jobs.map((video) => html`<${Job} key=${video.id} video=${video} />`)}</ul>`}
  ${recent.length > 0 && html`<h2>Newest</h2><ul class="grid small plain">${recent.map((video) => html`<li class="card" key=${video.id}>
    <a href=${`#watch/${video.id}`} title=${title(video)}><img src=${content(video, "thumbnail")} alt="" /> seed ${video.avgen.seed}</a></li>`)}</ul>
    <p class="row">${alike.length > 1 && html`<a class="button" href=${`#compare/${alike.map((video) => video.id).join(",")}`}>Compare seeds</a>`}
      <a class="button" href="#history">All clips</a></p>`}
  ${!jobs.length && !recent.length && html`<p class="empty">What is made appears here, step by step.</p>`}</aside></div>`;
}
