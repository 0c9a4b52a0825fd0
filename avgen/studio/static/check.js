// Any file: what it says of where it came from, and whether its lips and sound fit.

import { html, useRef, useState } from "./vendor/htm-preact.js";
import { post, status, upload, useStudio } from "./api.js";
import { SyncReport } from "./watch.js";

const STATES = {
  trusted: "whole, and signed by you, not by an accredited signer",
  valid: "whole, and signed by somebody whom this machine does not know",
  expired: "whole; the certificate that signed it has ended since",
  invalid: "the file was changed after it was signed",
  not_present: "none, which says nothing",
};

export function Check() {
  useStudio();
  const [name, setName] = useState(null);
  const [found, setFound] = useState(null);
  const [report, setReport] = useState(null);
  const [fault, setFault] = useState(null);
  const [over, setOver] = useState(false);
  const asked = useRef(0);
  const look = async (file) => {
    if (!file) return;
    const mine = ++asked.current; // an answer about an earlier file is nobody's any more
    const still = (set, value) => mine === asked.current && set(value);
    setName(file.name);
    setFound(null);
    setReport(null);
    setFault(null);
    try {
      const kept = await upload(file);
      still(setFound, (await post("/v1/content_provenance_checks", { file: kept.id })).avgen);
      still(setReport, await post("/v1/evaluations", { file: kept.id }).catch((error) => ({ scored: false, reason: error.message })));
    } catch (error) {
      still(setFault, error.message);
    }
  };
  const mark = (layer) => layer.z === null ? layer.reason
    : `${layer.state === "detected" ? "found" : "not found"}: ${layer.z.toFixed(1)} deviations above chance, ${layer.threshold} are needed`;
  const card = status.model?.avgen;
  return html`<h1 tabindex="-1">Check</h1>
    <p>Was this clip made by a model, and do its lips and sound fit? Nothing found does not mean real: marks wear off, and signatures are lost when a file is saved anew.</p>
    <div class=${`drop ${over ? "over" : ""}`} onDragOver=${(e) => { e.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}
      onDrop=${(e) => { e.preventDefault(); setOver(false); look(e.dataTransfer.files[0]); }}>
      <label>Drop a file here, or choose one<br /><input type="file" accept="video/*,audio/*,image/*" onChange=${(e) => look(e.target.files[0])} /></label></div>
    ${fault && html`<p class="bad" role="alert">${fault}</p>`}
    ${name && !fault && html`<h2>${name}</h2>`}
    ${name && !fault && !found && html`<p class="soft">being looked at …</p>`}
    ${found && html`<div class="wide half"><div><h2>Where it came from</h2><p><strong>${found.verdict}</strong></p><dl>
      <dt>signature</dt><dd>${STATES[found.c2pa.state]}${found.c2pa.signer ? ` (${found.c2pa.signer})` : ""}${found.c2pa.reasons.length && found.c2pa.state === "invalid" ? `: ${found.c2pa.reasons.join(", ")}` : ""}</dd>
      <dt>mark in the picture</dt><dd>${mark(found.picture)}</dd><dt>mark in the sound</dt><dd>${mark(found.sound)}</dd>
      ${Object.entries(found.tags).map(([tag, value]) => html`<dt>${tag}</dt><dd>${value} (anybody can write this)</dd>`)}</dl></div>
      <div><h2>Lips and sound</h2><${SyncReport} report=${report} /></div></div>`}
    ${card && html`<h2>The model here</h2><dl><dt>device</dt><dd>${card.device}, ${card.dtype}</dd>
      <dt>limits</dt><dd>${card.limits.max_seconds} s, ${card.limits.max_pixels.toLocaleString("en")} pixels, ${card.limits.max_queued} waiting</dd></dl>
      ${card.card && html`<details><summary>Its card</summary><pre>${card.card}</pre></details>`}`}`;
}
