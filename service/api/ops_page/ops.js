// The operations page: draws the stats and changes that the stream of events brings, and the health, which it reads every
// two seconds; the stats too, while there is no stream. The token lives in the variable below and nowhere else.

import { applyChange, Calls } from "./ops_calls.js";
import { EventStream } from "./ops_events.js";
import { findProblems } from "./ops_problems.js";
import { showProblems } from "./ops_verdict.js";
import { age, setText, CURVE_MS, showEnded, showNothing, showPlaced, showReplicas, showStore, showTraffic, showWakes } from "./ops_view.js";

const EVERY_MS = 2000;
const HIDDEN_MS = 30_000; // while nobody looks
const LONGEST_PAUSE_MS = 30_000; // while the service is away
const PATIENCE_MS = 8000;
const MINUTE_MS = 60_000;
const STATS = "/api/v1/vapi/cache/stats?limit=20";
const EVENTS = "/api/v1/vapi/events";
const STATS_LATE_MS = 12_000; // on a stream they come every 5 s
const DRAW_MS = 200; // at most so often for changes
const RATE_OVER_MS = 10_000;
const at = (id) => document.getElementById(id);

let token = null;
let isSignedIn = false;
let isPaused = false;
let timer = 0;
let reading = null; // the one read under way
let failures = 0;
let nextAt = 0;
let clockOffset = 0; // the service's clock less this one's
let shownAt = 0; // when the figures were read
let drawing = 0; // the timer of the next drawing for a change
let streamedAt = 0; // when the stream brought stats
const samples = []; // of the last minute: {at, stats, base}
const history = []; // of the curves: {at, webhooks, polls}
const read = { health: null, stats: null, statsError: null, awaySince: null, awayReason: "" };
const calls = new Calls();
const stream = new EventStream(EVENTS, takeEvent, schedule);
const now = () => Date.now() + clockOffset;

class Refused extends Error {}

async function get(path, needsToken) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const answer = await fetch(path, { headers, cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (needsToken && [401, 403, 429].includes(answer.status)) throw new Refused(await whyRefused(answer));
  const body = await answer.json();
  return { status: answer.status, body };
}

async function whyRefused(answer) {
  if (answer.status === 401) return "The service does not know this token.";
  if (answer.status === 429) return "Too many wrong tokens came from your address. Wait a minute, then try again.";
  const { error } = await answer.json().catch(() => ({}));
  return error === "This needs an admin token" ? "This token may read, but not administer. The page needs an admin token." : (error ?? "The service refuses this token.");
}

async function readAll(readsStats = true) {
  const [health, stats] = await Promise.all([get("/health", false), readsStats ? get(STATS, true) : null]);
  read.health = health.body.dependencies ? health.body : null;
  if (health.body.time_ms) clockOffset = health.body.time_ms - Date.now();
  if (stats) takeStats(stats.body, stats.status);
}

function takeStats(body, status) {
  read.stats = body.success ? body.stats : null;
  read.statsError = body.success ? null : (body.error ?? `status ${status}`);
  if (!read.stats) return;
  shownAt = Date.now();
  keepSample();
}

function takeEvent(name, data) {
  if (name === "stats") {
    streamedAt = Date.now();
    takeStats(data, "unknown");
  } else if (read.stats && name !== "gap") {
    applyChange(read.stats, name, data);
  }
  drawing ||= setTimeout(show, DRAW_MS);
}

const hasStream = () => stream.isOpen && Date.now() - streamedAt < STATS_LATE_MS;

async function tick(readsStats = !hasStream()) {
  clearTimeout(timer);
  if (reading || !isSignedIn) return;
  const mine = (reading = readAll(readsStats));
  try {
    await mine;
    failures = 0;
    read.awaySince = null;
    if (!document.hidden && !isPaused) stream.open(token);
  } catch (error) {
    if (error instanceof Refused) {
      reading = null;
      signOut(error.message);
      return;
    }
    failures += 1;
    read.awaySince ??= now();
    read.awayReason = error.name === "TimeoutError" ? "no answer in time" : error instanceof SyntaxError ? "something else answers in its place" : "no connection";
  }
  reading = null;
  if (!isSignedIn) return;
  show();
  schedule();
}

/** Sooner after success than after failures, seldom while the tab is hidden, never while paused. */
function schedule() {
  clearTimeout(timer);
  if (isPaused || document.hidden) stream.close();
  if (isPaused || !isSignedIn) return;
  const backoff = Math.min(LONGEST_PAUSE_MS, EVERY_MS * 2 ** Math.min(failures, 5)) * (failures ? 0.8 + 0.4 * Math.random() : 1);
  const pause = document.hidden ? Math.max(HIDDEN_MS, backoff) : backoff;
  nextAt = Date.now() + pause;
  timer = setTimeout(() => tick(), pause);
}

/** Processes write their counts once a second, so rates divide by the time between two writes, not between two reads. */
function keepSample() {
  const { stats } = read;
  if (!stats?.replicas) return;
  const here = stats.replicas.filter((replica) => now() - Date.parse(replica.last_seen) < 10_000);
  const base = { ids: here.map((replica) => replica.id).sort().join(), ms: here.reduce((sum, replica) => sum + Date.parse(replica.last_seen), 0) / here.length };
  samples.push({ at: Date.now(), stats, base });
  while (samples.length > 2 && Date.now() - samples[1].at > MINUTE_MS) samples.shift();
  const rates = ratesSince(samples.at(-2));
  if (rates) history.push(rates);
  while (history.length && Date.now() - history[0].at > CURVE_MS) history.shift();
}

const pollsOf = (stats) => stats.polls.hits + stats.polls.misses;

function ratesSince(earlier) {
  const latest = samples.at(-1);
  if (!earlier || !latest || earlier === latest) return null;
  const isSame = earlier.base.ids === latest.base.ids;
  const seconds = (isSame ? latest.base.ms - earlier.base.ms : latest.at - earlier.at) / 1000;
  if (!(seconds >= 0.5)) return null;
  const perSecond = (count) => Math.max(0, count(latest.stats) - count(earlier.stats)) / seconds;
  return { at: latest.at, webhooks: perSecond((stats) => stats.webhooks.received), polls: perSecond(pollsOf) };
}

/** The latest sample that is older than that; the first where none is. */
const sampleBefore = (ms) => samples.findLast((sample) => Date.now() - sample.at >= ms) ?? samples[0];

function show() {
  clearTimeout(drawing);
  drawing = 0;
  const moment = now();
  document.body.classList.toggle("stale", read.awaySince !== null || read.stats === null);
  if (read.stats) {
    const counts = read.stats.polls?.wake_latency.counts ?? [];
    const earlier = samples[0]?.stats.polls.wake_latency.counts ?? counts;
    showTraffic(read.stats, ratesSince(sampleBefore(RATE_OVER_MS)), history);
    showWakes(read.stats.polls?.wake_latency, counts.map((count, index) => Math.max(0, count - earlier[index])));
    showEnded(read.stats.calls);
    showPlaced(read.stats);
    showReplicas(read.stats.replicas, moment);
    calls.show(read.stats, moment);
  }
  showStore(read.health, read.stats);
  if (read.health?.version) setText(at("version"), read.health.version);
  showProblems(findProblems({ ...read, now: moment, before: samples.length > 1 ? samples[0].stats : null }));
  showFreshness();
}

function showFreshness() {
  const text = !isSignedIn ? "" : isPaused ? `Paused, read ${age(Date.now() - shownAt)} ago`
    : read.awaySince === null && !read.stats ? `Figures are ${age(Date.now() - shownAt)} old`
    : read.awaySince !== null ? `Next try in ${age(nextAt - Date.now())}` : `Read ${age(Date.now() - shownAt)} ago`;
  setText(at("freshness"), text);
}

function signOut(reason) {
  token = null;
  isSignedIn = false;
  stream.close();
  clearTimeout(timer);
  clearTimeout(drawing);
  samples.length = 0;
  at("forget").textContent = "Enter token";
  setText(at("sign-in-error"), reason ?? "\u00a0");
  setText(at("verdict"), "Not connected");
  at("verdict").dataset.level = "none";
  document.body.classList.add("stale");
  showFreshness();
  at("sign-in-button").disabled = false;
  if (!at("sign-in").open) at("sign-in").showModal();
  at("token").focus();
}

function signIn() {
  isSignedIn = true;
  at("sign-in").close();
  at("forget").textContent = "Forget token";
  at("pause").focus();
}

at("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  at("sign-in-button").disabled = true;
  setText(at("sign-in-error"), "\u00a0");
  try {
    if (!/^[\x21-\x7e]+$/.test(token)) throw new Refused("The service does not know this token.");
    await readAll();
    signIn();
    show();
    stream.open(token);
    schedule();
  } catch (error) {
    signOut(error instanceof Refused ? error.message : "The service does not answer. Try again.");
  }
  at("sign-in-button").disabled = false;
});

at("forget").addEventListener("click", () => location.reload()); // nothing that was read stays on the page either

at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  at("pause").setAttribute("aria-pressed", String(isPaused));
  isPaused ? schedule() : tick();
  showFreshness();
});

at("again").addEventListener("click", () => tick(true));
document.addEventListener("visibilitychange", () => (document.hidden || isPaused ? schedule() : tick()));
window.addEventListener("online", () => tick());
window.addEventListener("pagehide", () => { token = null; isSignedIn = false; stream.close(); });
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
setInterval(() => { if (!document.hidden) showFreshness(); }, 1000);

/** Without credentials set the service answers everybody on its machine, and says more of its health. */
async function begin() {
  try {
    const { body } = await get("/health", false);
    if (!body.version) return signOut();
    signIn();
    at("forget").style.visibility = "hidden";
    return tick();
  } catch {
    return signOut();
  }
}

showNothing();
begin();
