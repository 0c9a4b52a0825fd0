// A folder of training runs: curves and newest samples, read only.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { call, when } from "./api.js";
import { Curves } from "./draw.js";

const url = (image) => URL.createObjectURL(new Blob([Uint8Array.from(atob(image), (c) => c.charCodeAt(0))], { type: "image/png" }));

export function Training() {
  const [runs, setRuns] = useState(null);
  const [fault, setFault] = useState(null);
  const [chosen, choose] = useState(0);
  const read = () => call("/v1/runs").then((found) => { setRuns(found); setFault(null); }).catch((error) => setFault(error.message));
  useEffect(() => { read(); }, []);
  const run = runs?.data[chosen];
  const curves = Object.entries(run?.curves ?? {}).filter(([tag]) => tag !== "epoch")
    .map(([tag, points]) => [tag, points.filter(([, y]) => Number.isFinite(y)), points]) // NaN comes as null
    .sort(([a], [b]) => a.startsWith("throughput") - b.startsWith("throughput") || (a < b ? -1 : 1));
  return html`<h1 tabindex="-1">Training</h1>
    ${fault && html`<p class="bad" role="alert">${fault}</p>`}
    ${runs && !runs.folder && html`<p class="empty">No folder of runs was named: start with <code>avgen serve --runs FOLDER</code>.</p>`}
    ${runs?.folder && !run && html`<p class="empty">There is no run in ${runs.folder} yet.</p>`}
    ${run && html`<div class="row"><label>Run<select onChange=${(e) => choose(Number(e.target.value))}>${runs.data.map((one, index) =>
        html`<option value=${index} selected=${index === chosen}>${one.name}</option>`)}</select></label><button onClick=${read}>Read again</button>
      <span class="soft">written ${when(run.updated_at)}</span></div>
      ${run.samples.length > 0 && html`<h2>Samples</h2><ul class="grid plain">${run.samples.map((sample) => html`<li class="card">
        <img src=${url(sample.image)} alt=${`${sample.tag} at step ${sample.step}`} /><p>${sample.tag}, step ${sample.step}</p></li>`)}</ul>`}
      <h2>Curves</h2>${!curves.length && html`<p>Nothing is logged yet.</p>`}<ul class="grid plain">${curves.map(([tag, points, all]) => html`<li><h3>${tag}</h3>
        ${points.length > 0 && html`<${Curves} lines=${[{ name: tag, points }]} label=${`${tag}: ${points.at(-1)[1].toPrecision(3)} at step ${points.at(-1)[0]}`} />`}
        ${points.at(-1) !== all.at(-1) && html`<p class="bad">NaN or infinite at step ${all.at(-1)[0]}</p>`}</li>`)}</ul>`}`;
}
