// What is being made and what waits: progress, previews, and what can be done about them.

import { html } from "./vendor/htm-preact.js";
import { call, known, post, refreshQueue, running, say, seconds, status, title, useStudio, waiting } from "./api.js";
import { useSettings } from "./create.js";

export const act = (promise, words) => promise.then(() => words && say(words)).catch((error) => say(error.message));

const PHASES = { encoding: "reading", denoising: "making", decoding: "decoding", signing: "signing", measuring: "finishing" };

function describe(video) {
  const { state, step, steps, eta_s: eta, queue_position: before } = video.avgen;
  if (state === "cancelling") return "stopping …";
  if (waiting(video)) return before ? `waits for ${before}` : "next";
  if (!running(video)) return `${state}${video.error ? `: ${video.error.message}` : ""}`;
  const steps_ = step && video.avgen.phase === "denoising" ? `, step ${step} of ${steps}` : "";
  return `${PHASES[video.avgen.phase] ?? "starts"}${steps_}${eta ? `, about ${seconds(eta)} left` : ""}`;
}

export function Job({ video }) {
  const path = `/v1/videos/${video.id}`;
  return html`<li class="card job" data-id=${video.id}>
    ${video.avgen.preview && html`<img src=${video.avgen.preview} alt=${`what seed ${video.avgen.seed} is becoming`} />`}
    <div><h3>${title(video)}</h3>
    <p class="soft">seed ${video.avgen.seed} · ${video.seconds} s · ${video.size}</p>
    ${video.status !== "failed" && html`<progress max="100" value=${video.progress} aria-label=${`progress of seed ${video.avgen.seed}`}></progress>`}
    <p>${describe(video)}</p>
    <div class="row tight">
      ${(running(video) || waiting(video)) && html`<button onClick=${() => act(post(`${path}/cancel`), "Cancelled")}>Cancel</button>`}
      ${waiting(video) && video.avgen.queue_position > 0 && html`<button onClick=${() => act(post(`${path}/mark`, { first: true }))}>Make it next</button>`}
      ${waiting(video) && html`<button onClick=${() => act(post(`${path}/cancel`).then(() => useSettings(video)))}>Edit</button>`}
      ${video.status === "failed" && html`<button onClick=${() => act(post(`${path}/retry`), "Queued again")}>Try again</button>
        <button onClick=${() => act(call(path, { method: "DELETE" }), "Removed")}>Remove</button>`}
    </div></div>
  </li>`;
}

export function QueueSection() {
  useStudio();
  const all = known();
  const now = all.filter(running);
  const next = all.filter(waiting).sort((a, b) => a.avgen.queue_position - b.avgen.queue_position || a.created_at - b.created_at);
  const failed = all.filter((video) => video.status === "failed").slice(0, 12);
  const paused = status.queue?.paused;
  const list = (videos) => html`<ul class="grid jobs plain">${videos.map((video) => html`<${Job} key=${video.id} video=${video} />`)}</ul>`;
  return html`<h1 tabindex="-1">Queue</h1>
    <div class="row"><button aria-pressed=${String(!!paused)} onClick=${() => act(post("/v1/queue", { paused: !paused }).then(refreshQueue))}>
      ${paused ? "Go on" : "Pause after this one"}</button>
      <span class="soft">${paused ? "Paused: nothing new is begun." : `${now.length} being made, ${next.length} waiting`}</span></div>
    ${!now.length && !next.length && html`<p class="empty">Nothing waits. <a href="#create">Make a clip</a>.</p>`}
    ${now.length > 0 && html`<h2>Being made</h2>${list(now)}`}
    ${next.length > 0 && html`<h2>Waiting</h2>${list(next)}`}
    ${failed.length > 0 && html`<h2>Ended without a clip</h2>${list(failed)}`}`;
}
