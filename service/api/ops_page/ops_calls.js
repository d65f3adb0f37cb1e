// The newest calls: one row each, with its life as a line on a time axis that all rows share. Rows never move; what they
// show does. So nothing on the page jumps when a call comes.

import { age, clock, setText, svg, words } from "./ops_view.js";

const ROWS = 20;
const NOW_AT = 97; // percent of the axis; the rest is room for the marks
const SPANS_S = [20, 40, 60, 120, 240, 480, 1200, 2400, 3600]; // whole numbers at each quarter
const HOUR_MS = 3_600_000;
const SHRINKS_AFTER_MS = 20_000;
const REMEMBERED = 1000;
const STATES = { partial: "report awaited", fetch_failed: "no report" };

const talkingSince = new Map(); // call id to when this page saw it in progress; VAPI tells only in the report

/** The table of calls. */
export class Calls {
  #rows;
  #axis = document.getElementById("axis");
  #spanMs = 0;
  #tooLongSince = 0;
  #count = document.getElementById("calls-count");

  constructor() {
    this.#rows = Array.from({ length: ROWS }, () => new Row());
    document.getElementById("lives").append(...this.#rows.map((row) => row.element));
  }

  show(stats, now) {
    const calls = stats.entries.map((entry) => ({ ...entry, ...lifeOf(entry, now) }));
    const spanMs = this.#spanOf(calls, now);
    setText(this.#count, stats.size > calls.length ? `${calls.length} of ${stats.size.toLocaleString("en")} kept` : `${stats.size.toLocaleString("en")} kept`);
    this.#showAxis(spanMs);
    this.#rows.forEach((row, index) => row.show(calls[index], now, spanMs));
    if (!calls.length) this.#rows[0].say("No calls yet. A call appears here with its first webhook.");
    for (const id of talkingSince.keys()) if (talkingSince.size > REMEMBERED) talkingSince.delete(id); // the oldest first
  }

  /** The shortest axis on which nine of ten calls begin. It grows at once and shrinks late, so that it does not flicker. */
  #spanOf(calls, now) {
    const ages = calls.map((call) => now - call.began).sort((a, b) => a - b);
    const neededMs = ages.length ? ages[Math.floor((ages.length - 1) * 0.9)] : 0;
    const spanMs = 1000 * (SPANS_S.find((span) => span * 1000 >= neededMs) ?? SPANS_S.at(-1));
    if (spanMs >= this.#spanMs) this.#tooLongSince = now;
    if (spanMs > this.#spanMs || now - this.#tooLongSince > SHRINKS_AFTER_MS) this.#spanMs = spanMs;
    return this.#spanMs;
  }

  #showAxis(spanMs) {
    const marks = [1, 0.75, 0.5, 0.25, 0].map((part) => (part ? `−${age(part * spanMs)}` : "now"));
    if (!this.#axis.children.length) this.#axis.append(...marks.map(() => document.createElement("span")));
    marks.forEach((mark, index) => setText(this.#axis.children[index], mark));
  }
}

/** What a `call` or `gone` event changes in the stats, until the next stats come: they know more of the call. */
export function applyChange(stats, name, change) {
  const { entries } = stats;
  const index = entries.findIndex((entry) => entry.callId === change.call_id);
  const known = index < 0 ? null : entries.splice(index, 1)[0];
  if (name === "gone") {
    if (known) stats.size -= 1;
    return;
  }
  const timestamp = Date.parse(change.updated_at);
  const fresh = { callId: change.call_id, createdAt: timestamp, overAt: null, startedAt: null, endedAt: null, durationMinutes: null, retry: null, endedReason: null, phone: null };
  const entry = { ...(known ?? fresh), status: change.status, dataStatus: change.data_status, outcome: change.outcome, timestamp };
  if (entry.dataStatus !== "pending") entry.overAt ??= timestamp;
  if (!known) stats.size += 1;
  entries.unshift(entry);
  entries.length = Math.min(entries.length, ROWS);
}

class Row {
  element = document.createElement("tr");
  #cells;
  #line;

  constructor() {
    this.#cells = Object.fromEntries(["call", "phone", "state", "life", "talk", "retry", "age"].map((name) => {
      const cell = document.createElement("td");
      cell.className = name;
      this.element.append(cell);
      return [name, cell];
    }));
    this.#line = svg("svg", { class: "line", role: "img" });
    this.#line.append(...["ringing", "talking", "waiting"].map((name) => svg("rect", { class: name })));
    this.#line.append(svg("circle", { class: "mark" }));
    this.#cells.life.append(this.#line);
    this.show(undefined);
  }

  say(text) {
    setText(this.#cells.call, text);
    this.element.className = "says";
  }

  show(call, now, spanMs) {
    this.element.className = call ? `${call.dataStatus} ${call.outcome ?? ""}` : "empty";
    for (const name of ["call", "phone", "state", "talk", "retry", "age"]) setText(this.#cells[name], call ? TEXTS[name](call, now) : "");
    this.#cells.call.title = call?.callId ?? "";
    this.#cells.state.title = call?.endedReason ?? "";
    if (!call) return;
    const at = (ms) => Math.max(0, NOW_AT * (1 - (now - ms) / spanMs));
    const [ringing, talking, waiting, mark] = this.#line.children;
    place(ringing, at(call.began), at(call.talkFrom ?? call.talkTo));
    place(talking, call.talkFrom === null ? 0 : at(call.talkFrom), call.talkFrom === null ? 0 : at(call.talkTo));
    place(waiting, at(call.over === null ? now : call.talkTo), at(call.over === null ? now : call.final ?? now));
    mark.setAttribute("cx", `${at(call.final ?? now)}%`);
    this.#line.setAttribute("aria-label", inWords(call, now));
  }
}

const TEXTS = {
  call: (call) => (call.callId.length > 13 ? `${call.callId.slice(0, 8)}…${call.callId.slice(-4)}` : call.callId),
  phone: (call) => call.phone ?? "–",
  state: (call) => STATES[call.dataStatus] ?? (call.dataStatus === "pending" ? words(call.status ?? "announced") : words(call.outcome ?? "over")),
  talk: (call) => (call.talkMs === null ? "" : clock(call.talkMs)),
  retry: (call) => ({ later: "later", soon: "soon", fix: "after a fix" })[call.retry] ?? "",
  age: (call, now) => age(now - call.timestamp),
};

function place(rect, from, to) {
  rect.setAttribute("x", `${from}%`);
  rect.setAttribute("width", `${Math.max(0, to - from)}%`);
}

function inWords(call, now) {
  const parts = [`began ${age(now - call.began)} ago`];
  if (call.talkMs !== null) parts.push(`talk ${clock(call.talkMs)}`);
  if (call.over !== null) parts.push(call.final === null ? `report awaited for ${age(now - call.over)}` : `final ${age(call.final - call.over)} after its end`);
  return parts.join(", ");
}

/** Where the call's phases begin and end, by Redis's clock. VAPI's own times count only where they fit to it. */
function lifeOf(call, now) {
  const isOver = call.overAt !== null;
  const over = isOver ? call.overAt : null;
  const isFinal = call.dataStatus === "complete" || call.dataStatus === "fetch_failed";
  if (!isOver && ["in-progress", "forwarding"].includes(call.status) && !talkingSince.has(call.callId)) {
    talkingSince.set(call.callId, now - call.timestamp < HOUR_MS && call.createdAt !== call.timestamp ? call.timestamp : call.createdAt);
  }
  const durationMs = call.durationMinutes >= 0 && call.durationMinutes < 24 * 60 && call.durationMinutes !== null ? call.durationMinutes * 60_000 : null;
  const talkTo = isOver ? (fits(call.endedAt, call.createdAt - HOUR_MS, over + 5000) ? Math.min(call.endedAt, over) : over) : now;
  let talkFrom = talkingSince.get(call.callId) ?? null;
  if (fits(call.startedAt, call.createdAt - HOUR_MS, talkTo)) talkFrom = call.startedAt;
  else if (durationMs !== null && isOver) talkFrom = talkTo - durationMs;
  if (talkFrom !== null) talkFrom = Math.min(talkFrom, talkTo);
  const talkMs = durationMs ?? (talkFrom === null ? null : talkTo - talkFrom);
  return { began: Math.min(call.createdAt, talkFrom ?? call.createdAt), talkFrom, talkTo, talkMs, over, final: isFinal ? Math.max(call.timestamp, over ?? 0) : null };
}

const fits = (moment, least, most) => moment !== null && moment >= least && moment <= most;
