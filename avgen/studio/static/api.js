// The server, as the page sees it: requests, and what it tells of itself.

import { useLayoutEffect, useState } from "./vendor/htm-preact.js";

export class Failure extends Error {
  constructor(error) {
    super(error.message);
    Object.assign(this, error);
  }
}

export async function call(path, { method = "GET", json, form, headers = {} } = {}) {
  const options = { method, headers: { ...headers } };
  if (json !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(json);
  }
  if (form) options.body = form;
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Failure({ message: "The server does not answer. Is avgen serve still running?", code: "offline" });
  }
  if (answer.status === 401) location.href = "/enter";
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Failure(content.error ?? { message: `Error ${answer.status}` });
  return content;
}

export const post = (path, json = {}, headers = {}) => call(path, { method: "POST", json, headers });

export async function upload(file, path = "/v1/files", fields = { purpose: "input" }) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file);
  return call(path, { method: "POST", form });
}

// Clips that the page knows, newest first. Events keep them true; after a silence they are read anew.
const videos = new Map();
const listeners = new Set();
export const status = { connected: false, model: null, queue: null, said: "" };

const changed = () => listeners.forEach((listener) => listener());
export const known = () => [...videos.values()].sort((a, b) => b.created_at - a.created_at || b.avgen.seed - a.avgen.seed);
export const get = (id) => videos.get(id);
export function say(words) {
  status.said = words;
  changed();
}

export function keep(list) {
  for (const video of list) videos.set(video.id, video);
  changed();
}

export function drop(id) {
  videos.delete(id);
  changed();
}

export function useStudio() {
  const [, set] = useState(0);
  useLayoutEffect(() => { // at once: what changes before the next frame is heard of
    const listener = () => set((n) => n + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
}

export async function find(id) {
  if (!videos.has(id)) keep([await call(`/v1/videos/${id}`)]);
  return videos.get(id);
}

async function refresh() {
  const [list, models, queue] = await Promise.all([
    call("/v1/videos?limit=100"),
    call("/v1/models"),
    call("/v1/queue"),
  ]);
  status.model = models.data[0];
  status.queue = queue;
  keep(list.data);
  if (!status.model.avgen.defaults && !status.model.avgen.fault) setTimeout(refresh, 1000);
}

export const refreshQueue = async () => {
  status.queue = await call("/v1/queue");
  changed();
};

// Who waits for whom changes with every clip that comes or goes; an event tells of its own clip only.
let asked = null;
function refreshWaiting() {
  asked ??= setTimeout(async () => {
    asked = null;
    if ([...videos.values()].some(waiting)) keep((await call("/v1/videos?status=queued&limit=100").catch(() => ({ data: [] }))).data);
  }, 300);
}

export function connect() {
  const source = new EventSource("/v1/events");
  source.onopen = () => {
    status.connected = true;
    refresh().catch((error) => say(error.message));
  };
  source.onerror = () => {
    status.connected = false;
    changed();
  };
  source.addEventListener("video", (event) => {
    const video = JSON.parse(event.data);
    const before = videos.get(video.id);
    keep([video]);
    if (video.status !== before?.status || video.avgen.queue_position !== before.avgen.queue_position) refreshWaiting();
    if (video.status !== before?.status && ["completed", "failed"].includes(video.status)) {
      refreshQueue();
      say(`Seed ${video.avgen.seed}: ${video.avgen.state}`);
    }
  });
  source.addEventListener("progress", (event) => {
    const { id, progress, ...now } = JSON.parse(event.data);
    const video = videos.get(id);
    if (!video) return;
    const preview = now.preview ?? video.avgen.preview;
    const state = video.avgen.state === "cancelling" ? "cancelling" : now.phase;
    keep([{ ...video, status: "in_progress", progress: Math.max(progress, video.progress),
      avgen: { ...video.avgen, ...now, preview, state } }]);
  });
  source.addEventListener("removed", (event) => {
    drop(JSON.parse(event.data).id);
    refreshWaiting();
  });
}

export const finished = (video) => video.status === "completed";
export const running = (video) => video.status === "in_progress";
export const waiting = (video) => video.status === "queued";
export const content = (video, variant = "video") => `/v1/videos/${video.id}/content?variant=${variant}`;
export const title = (video) =>
  (video.avgen.words ?? []).map((word) => word[0]).join(" ") || video.prompt || "a clip without words";
export const when = (at) => new Date(at * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
export const seconds = (value) => (value >= 90 ? `${Math.round(value / 60)} min` : `${Math.round(value)} s`);
export const energy = (video) => {
  const spent = video.avgen.energy;
  if (!spent) return "";
  const cpu = `${spent.cpu_seconds.toFixed(1)} s of processor`;
  if (spent.joules === null) return `${cpu}; energy not measured`;
  return `${spent.source === "estimate" ? "≈ " : ""}${Math.round(spent.joules)} J (${spent.scope}), ${cpu}`;
};
