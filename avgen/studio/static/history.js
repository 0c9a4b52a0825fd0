// All clips, page by page: found again, used again, thrown away.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { call, content, drop, energy, keep, post, say, title, useStudio, when } from "./api.js";
import { useSettings } from "./create.js";
import { act } from "./queue.js";

const PAGE = 24;

export function Card({ video, children }) {
  return html`<li class="card" key=${video.id}>
    <a href=${`#watch/${video.id}`}><img loading="lazy" src=${content(video, "thumbnail")} alt="" /><span>${title(video)}</span></a>
    <p class="soft">seed ${video.avgen.seed} · ${video.seconds} s · ${when(video.created_at)}<br />${energy(video).split(";")[0]}</p>
    ${children}</li>`;
}

export function History() {
  useStudio();
  const [search, setSearch] = useState("");
  const [favourites, setFavourites] = useState(false);
  const [found, setFound] = useState({ data: [], has_more: false });

  const query = (after) => {
    const asked = new URLSearchParams({ status: "completed", limit: PAGE });
    if (search) asked.set("search", search);
    if (favourites) asked.set("favourite", "true");
    if (after) asked.set("after", after);
    return call(`/v1/videos?${asked}`);
  };
  useEffect(() => {
    let stale = false; // another search was typed meanwhile
    const timer = setTimeout(() => query().then((list) => { keep(list.data); if (!stale) setFound(list); }).catch((error) => say(error.message)), 150);
    return () => { stale = true; clearTimeout(timer); };
  }, [search, favourites]);
  const older = async () => {
    const after = found.data.at(-1)?.id; // the last that is there still
    const list = await query(after).catch((error) => say(error.message));
    if (!list) return;
    keep(list.data);
    setFound((now) => (now.data.at(-1)?.id === after ? { ...list, data: [...now.data, ...list.data] } : now));
  };
  const change = (video, promise, words) => act(promise.then((now) => {
    setFound((all) => ({ ...all, data: all.data.flatMap((old) => (old.id !== video.id ? [old] : now.deleted ? [] : [now])) }));
    if (now.deleted) drop(video.id);
  }), words);

  return html`<h1 tabindex="-1">History</h1>
    <div class="row"><label>Search<input type="search" value=${search} onInput=${(e) => setSearch(e.target.value)} /></label>
      <button aria-pressed=${String(favourites)} onClick=${() => setFavourites(!favourites)}>Favourites only</button></div>
    ${found.data.length ? html`<p class="soft">${found.data.length}${found.has_more ? " or more" : ""} ${found.data.length === 1 ? "clip" : "clips"}</p>`
      : found.object && html`<p class="empty">${search || favourites ? "No clip is like that." : html`No clip is finished yet. <a href="#create">Make one</a>.`}</p>`}
    <ul class="grid plain">${found.data.map((video) => html`<${Card} video=${video} key=${video.id}><div class="row tight">
      <button aria-pressed=${String(video.avgen.favourite)} aria-label=${`favourite: seed ${video.avgen.seed}`}
        onClick=${() => change(video, post(`/v1/videos/${video.id}/mark`, { favourite: !video.avgen.favourite }))}>${video.avgen.favourite ? "★" : "☆"}</button>
      <button onClick=${() => useSettings(video)}>Settings</button>
      <a class="button" href=${content(video)} download=${`${video.id}.mp4`} aria-label=${`download: seed ${video.avgen.seed}`} title="Download">↓</a>
      <button onClick=${() => confirm("Delete this clip and its files?") && change(video, call(`/v1/videos/${video.id}`, { method: "DELETE" }), "Deleted")}>Delete</button>
    </div></${Card}>`)}</ul>
    ${found.has_more && html`<p><button onClick=${older}>Older ones</button></p>`}`;
}
