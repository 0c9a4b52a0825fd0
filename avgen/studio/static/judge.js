// Two clips that nobody can tell by name; which is better is kept, and counted with its interval.

import { html, useEffect, useLayoutEffect, useState } from "./vendor/htm-preact.js";
import { call, post, say } from "./api.js";

const SIDES = ["left", "right"];

export function Judge() {
  const [pair, setPair] = useState(null);
  const [played, setPlayed] = useState({});
  const [fault, setFault] = useState(null);
  const [all, setAll] = useState(null);
  const draw = async () => {
    setPlayed({});
    try {
      setAll(await call("/v1/judgements"));
      const drawn = await call("/v1/judgements/pair");
      setPair(drawn.ticket ? drawn : null);
      setFault(drawn.reason ?? null);
    } catch (error) {
      setPair(null);
      setFault(error.message);
    }
  };
  useEffect(() => { draw(); }, []);
  const ready = pair && SIDES.every((side) => played[side]);
  const judge = async (verdict) => {
    if (!ready) return;
    try {
      await post("/v1/judgements", { ticket: pair.ticket, verdict });
      say("Kept");
    } catch (error) {
      say(error.message);
    }
    draw();
  };
  useLayoutEffect(() => { // before the buttons can be seen to be ready: no key is lost
    const key = (event) => {
      if (event.target.closest?.("input, textarea, select, video")) return;
      const verdict = { ArrowLeft: "left", ArrowRight: "right", "=": "same" }[event.key];
      if (verdict) judge(verdict);
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  });
  const save = () => {
    const text = all.data.map((row) => `${JSON.stringify(row)}\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
    link.download = "judgements.jsonl";
    link.click();
  };
  const percent = (share) => `${Math.round(100 * share)} %`;
  return html`<h1 tabindex="-1">Judge</h1>
    <p>Which of the two is better? Sides are random, names hidden. Play both to the end, then say which: <kbd>←</kbd> <kbd>=</kbd> <kbd>→</kbd></p>
    ${fault && html`<p class="empty">${fault}</p>`}
    ${pair && html`<div class="pair">${SIDES.map((side) => html`<div class="card" key=${pair.ticket + side}>
        <video src=${pair[side]} controls playsinline preload="auto" aria-label=${`the clip on the ${side}`}
          onEnded=${() => setPlayed((before) => ({ ...before, [side]: true }))}></video>
        <p class="soft">${played[side] ? "played" : "not played yet"}</p></div>`)}</div>
      <div class="row verdicts"><button class="main" disabled=${!ready} onClick=${() => judge("left")}>Left is better</button>
        <button disabled=${!ready} onClick=${() => judge("same")}>The same</button>
        <button class="main" disabled=${!ready} onClick=${() => judge("right")}>Right is better</button></div>`}
    ${all?.data.length > 0 && html`<h2>So far</h2><div class="scroll" tabindex="0" role="region" aria-label="judgements"><table>
      <thead><tr><th scope="col">pair</th><th scope="col">judged</th><th scope="col">first preferred</th><th scope="col">95 % interval</th></tr></thead>
      <tbody>${all.summary.map((row, index) => html`<tr><td>pair ${index + 1}</td><td>${row.n}</td><td>${percent(row.a_preferred)}</td>
        <td>${row.interval.map(percent).join(" to ")}</td></tr>`)}</tbody></table></div>
      <p><button onClick=${save}>Export as JSONL</button></p>`}`;
}
