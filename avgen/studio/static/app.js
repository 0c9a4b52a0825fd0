// The page: its sections, which of them is shown, and what it says aloud.

import { html, render, useEffect, useLayoutEffect, useState } from "./vendor/htm-preact.js";
import { connect, known, running, say, status, useStudio, waiting } from "./api.js";
import { Check } from "./check.js";
import { Compare } from "./compare.js";
import { Create } from "./create.js";
import { History } from "./history.js";
import { Judge } from "./judge.js";
import { QueueSection } from "./queue.js";
import { Training } from "./training.js";
import { WatchSection } from "./watch.js";

const SECTIONS = {
  create: ["Create", Create],
  queue: ["Queue", QueueSection],
  watch: ["Watch", WatchSection],
  compare: ["Compare", Compare],
  judge: ["Judge", Judge],
  history: ["History", History],
  check: ["Check", Check],
  training: ["Training", Training],
};

const place = () => {
  const [section, ...rest] = location.hash.slice(1).split("/");
  return { section: SECTIONS[section] ? section : "create", rest };
};

function Theme() {
  const [theme, set] = useState(localStorage.getItem("theme") ?? "system");
  useEffect(() => {
    localStorage.setItem("theme", theme);
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);
  const next = { system: "light", light: "dark", dark: "system" };
  return html`<button class="quiet" onClick=${() => set(next[theme])}>Colours: ${theme}</button>`;
}

function Page() {
  useStudio();
  const [at, go] = useState(place());
  useLayoutEffect(() => {
    const moved = () => {
      say("");
      go(place());
      document.querySelector("h1")?.focus();
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    document.title = `${SECTIONS[at.section][0]} · avgen studio`;
  }, [at.section]);
  const [, Section] = SECTIONS[at.section];
  const busy = known().filter((video) => running(video) || waiting(video)).length;
  const fault = status.model?.avgen.fault;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector("h1")?.focus(); }}>To the content</a>
    <header><strong>avgen studio</strong>
      <nav aria-label="Sections">${Object.entries(SECTIONS).map(([name, [label]]) => html`<a href=${`#${name}`}
        aria-current=${at.section === name ? "page" : null}>${label}${name === "queue" && busy ? ` (${busy})` : ""}</a>`)}</nav>
      <${Theme} /></header>
    <main id="main">
      ${fault && html`<p class="bad" role="alert">The model cannot be used: ${fault}</p>`}
      <${Section} key=${at.section + at.rest.join("/")} rest=${at.rest} />
      <p class="status" role="status" aria-live="polite">${status.connected ? status.said : "Connecting …"}</p>
    </main>`;
}

connect();
document.body.replaceChildren();
render(html`<${Page} />`, document.body);
