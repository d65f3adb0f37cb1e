// Draws the panels from what was read. Every number has a place that is there before the number comes.

export const CURVE_MS = 180_000;
const WIDTH = 89;
const HEIGHT = 40;
const OUTCOMES = ["completed", "voicemail", "no_answer", "busy", "cancelled", "failed"];
const at = (id) => document.getElementById(id);

export const words = (name) => name.replaceAll("_", " ").replaceAll("-", " ");

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** 12 s, 4 min, 3 h: the largest unit that fits. */
export function age(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  return s < 120 ? `${s} s` : s < 7200 ? `${Math.round(s / 60)} min` : s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

/** 1:05, or 1:00:05. */
export function clock(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

export const number = (value) => (value === null || value === undefined ? "–" : value < 1e6 ? value.toLocaleString("en") : `${(value / 1e6).toFixed(2)} M`);
export const rate = (value) => (value === null ? "–" : value >= 9.95 ? Math.round(value).toLocaleString("en") : value.toFixed(1));
const percent = (value) => (value === null || value === undefined ? "–" : `${value === 1 ? "100" : Math.min(99.99, value * 100).toFixed(value > 0.99 ? 2 : 1)} %`);
const bytes = (value) => (value < 1024 ? `${value} B` : value < 1_048_576 ? `${Math.round(value / 1024)} kB` : `${(value / 1_048_576).toFixed(1)} MB`);

/** Pairs of name and value; the list's terms stay, only values change. */
function setPairs(id, pairs) {
  const list = at(id);
  if (list.children.length !== pairs.length) {
    list.replaceChildren(...pairs.map(() => {
      const pair = document.createElement("div");
      pair.append(document.createElement("dt"), document.createElement("dd"));
      return pair;
    }));
  }
  pairs.forEach(([name, value, level], index) => {
    const [term, text] = list.children[index].children;
    setText(term, name);
    setText(text, value);
    list.children[index].className = level ?? "";
  });
}

export function showTraffic(stats, rates, history) {
  for (const name of ["webhooks", "polls"]) {
    setText(at(`${name}-rate`), rate(rates?.[name] ?? null));
    drawCurve(name, history);
  }
  const { webhooks, polls } = stats;
  setPairs("webhooks-counts", [
    ["taken", number(webhooks?.received)], ["delivered", percent(webhooks?.delivery_success_rate)],
    ["stored", number(webhooks?.stored)], ["nothing new", number(webhooks?.ignored)],
    ["spooled", number(webhooks?.spooled), webhooks?.spooled ? "warn" : ""], ["failed", number(webhooks?.failed), webhooks?.failed ? "bad" : ""],
    ["no proof", number(webhooks?.unauthorized), webhooks?.unauthorized ? "warn" : ""], ["not understood", number(webhooks?.invalid)],
  ]);
  setPairs("polls-counts", [
    ["parked now", number(polls?.parked)], ["found at once", percent(polls?.hit_rate)],
    ["with a record", number(polls?.hits)], ["without", number(polls?.misses)],
    ["that waited", number(polls?.waits)], ["records kept", number(stats.size)],
  ]);
}

function drawCurve(name, history) {
  const peak = Math.max(...history.map((sample) => sample[name]), 0);
  const top = Math.max(peak, 1) * 1.1;
  const last = history.at(-1)?.at;
  const x = (sample) => (WIDTH * (1 - (last - sample.at) / CURVE_MS)).toFixed(2);
  const points = history.map((sample) => `${x(sample)} ${(HEIGHT - 1 - (sample[name] / top) * (HEIGHT - 2)).toFixed(2)}`);
  const curve = points.length > 1 ? `M${points.join("L")}` : "";
  const [area, line] = at(`${name}-spark`).children;
  line.setAttribute("d", curve);
  area.setAttribute("d", curve && `${curve}V${HEIGHT}H${x(history[0])}Z`);
  const text = points.length > 1 ? `at most ${rate(peak)} a second in ${age(last - history[0].at)}` : "\u00a0";
  setText(at(`${name}-peak`), text);
  at(`${name}-spark`).setAttribute("aria-label", text);
}

/** What is shown before anything was read: every name, no number. */
export function showNothing() {
  showTraffic({}, null, []);
  showWakes(null, []);
  showEnded(null);
  showStore(null, null);
  showPlaced({});
}

/** `recent` are the counts of the last minute by bucket, `all` those of all time. */
export function showWakes(latency, recent) {
  const bounds = latency?.at_most_ms ?? [];
  const all = latency?.counts ?? [];
  const isRecent = recent.some((count) => count > 0);
  const counts = isRecent ? recent : all;
  setText(at("wake-p50"), quantile(bounds, counts, 0.5));
  const bars = at("wake-bars");
  if (!bars.children.length) bars.append(...Array.from({ length: 14 }, (_, index) => svg("rect", { x: String(index + 0.12), width: "0.76" })));
  const most = Math.max(...counts, 1);
  [...bars.children].forEach((bar, index) => {
    const height = counts[index] ? Math.max(2, (counts[index] / most) * (HEIGHT - 2)) : 0.8;
    bar.setAttribute("y", (HEIGHT - height).toFixed(2));
    bar.setAttribute("height", height.toFixed(2));
  });
  const total = counts.reduce((sum, count) => sum + count, 0);
  const text = total ? `from 0.5 ms to beyond 5 s, ${isRecent ? "the last minute" : "all so far"}` : "no poll was woken yet";
  setText(at("wake-note"), text);
  bars.setAttribute("aria-label", text);
  const sum = all.reduce((one, count) => one + count, 0);
  setPairs("wake-counts", [
    ["95 %", `${quantile(bounds, counts, 0.95)} ms`], ["99 %", `${quantile(bounds, counts, 0.99)} ms`],
    ["in a minute", number(recent.reduce((one, count) => one + count, 0))], ["polls woken", number(latency ? sum : null)],
  ]);
}

/** An upper bound, as the counts are by bucket. */
function quantile(bounds, counts, share) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return "–";
  let seen = 0;
  const index = counts.findIndex((count) => (seen += count) >= share * total);
  return bounds[index] === null ? "> 5000" : `≤ ${bounds[index]}`;
}

export function showEnded(calls) {
  setText(at("ended"), number(calls?.ended));
  const counts = OUTCOMES.map((name) => calls?.outcomes[name] ?? 0);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const bar = at("outcomes-bar");
  if (!bar.children.length) bar.append(...OUTCOMES.map((name) => svg("rect", { class: name, y: "0", height: "10" })));
  let from = 0;
  counts.forEach((count, index) => {
    const width = total ? (100 * count) / total : 0;
    bar.children[index].setAttribute("x", `${from}%`);
    bar.children[index].setAttribute("width", `${width}%`);
    from += width;
  });
  bar.setAttribute("aria-label", OUTCOMES.map((name, index) => `${words(name)} ${counts[index]}`).join(", "));
  setPairs("outcomes", OUTCOMES.map((name, index) => [words(name), calls ? number(counts[index]) : "–", name]));
  setPairs("ended-counts", [
    ["with full report", percent(calls?.completion_rate)], ["on average", calls?.average_duration_minutes == null ? "–" : `${clock(calls.average_duration_minutes * 60_000)} min`],
    ["call again later", number(calls?.retries.later ?? (calls ? 0 : null))], ["soon", number(calls?.retries.soon ?? (calls ? 0 : null))],
    ["after a fix", number(calls?.retries.fix ?? (calls ? 0 : null)), calls?.retries.fix ? "warn" : ""], ["top fault", topFault(calls)],
  ]);
}

function topFault(calls) {
  const [name] = Object.entries(calls?.ended_reasons ?? {}).filter(([reason]) => /error|fail|fault|forbidden|invalid|not-found/.test(reason)).sort((a, b) => b[1] - a[1])[0] ?? ["–"];
  return name;
}

export function showStore(health, stats) {
  const redis = health?.dependencies.redis;
  const latency = stats?.store.latency_ms ?? redis?.latency_ms;
  const isUp = redis?.status === "ok";
  setText(at("redis-latency"), !redis ? "–" : redis.status === "down" ? "away" : latency < 10 ? latency.toFixed(1) : String(Math.round(latency)));
  setText(at("redis-unit"), redis?.status === "down" ? "Redis" : "ms a write");
  at("redis-latency").className = !redis || isUp ? "" : "bad";
  const masters = Object.values(redis?.masters ?? {});
  setPairs("redis", [
    ["Redis", redis ? (isUp ? "takes webhooks" : redis.status) : "–", !redis || isUp ? "" : "bad"],
    ["masters", masters.length ? `${masters.filter((master) => master.status === "ok").length} of ${masters.length}` : redis ? `${isUp ? 1 : 0} of 1` : "–"],
    ["notifications", health ? (health.dependencies.notifications.status === "ok" ? "subscribed" : "lost") : "–", health && health.dependencies.notifications.status !== "ok" ? "warn" : ""],
  ]);
  const spools = stats?.replicas ? stats.replicas.map((replica) => replica.spool).filter(Boolean) : stats?.store.spool ? [stats.store.spool] : [];
  const sum = (name) => spools.reduce((one, spool) => one + spool[name], 0);
  const has = spools.length > 0;
  setPairs("spool", [
    ["spool", !health ? "–" : !health.dependencies.spool ? "none set" : health.dependencies.spool.status === "ok" ? "has room" : "no room", health?.dependencies.spool && health.dependencies.spool.status !== "ok" ? "bad" : ""],
    ["waiting", has ? number(sum("waiting")) : "–", has && sum("waiting") ? "warn" : ""], ["set aside", has ? number(sum("rejected")) : "–", has && sum("rejected") ? "warn" : ""], ["size", has ? bytes(sum("bytes")) : "–"],
  ]);
  showArchive(stats);
}

function showArchive(stats) {
  const archive = stats?.archive;
  const off = archive ? null : stats ? "off" : "–";
  setPairs("archive", [
    ["rows written", off ?? number(archive.written)], ["changes wait", off ?? number(archive.backlog), archive?.problem ? "warn" : ""],
    ["refused", off ?? number(archive.set_aside), archive?.set_aside ? "bad" : ""], ["given up", off ?? number(archive.given_up), archive?.given_up ? "bad" : ""],
  ]);
}

export function showPlaced(stats) {
  const { placed, subscriptions, callbacks, reconciled } = stats;
  setText(at("placed"), number(placed?.placed));
  setPairs("placed-counts", [
    ["repeated", number(placed?.repeated)], ["refused", number(placed?.refused)],
    ["failed", number(placed?.failed), placed?.failed ? "warn" : ""], ["outcome unknown", number(placed?.unknown), placed?.unknown ? "bad" : ""],
  ]);
  const count = (group, name) => (group ? number(group[name]) : placed ? "off" : "–");
  setPairs("subscriptions", [
    ["executions due", count(subscriptions, "due")], ["callbacks due", count(callbacks, "due")],
    ["resumed", count(subscriptions, "resumed")], ["delivered", count(callbacks, "delivered")],
    ["not resumed", count(subscriptions, "dropped"), subscriptions?.dropped ? "warn" : ""],
    ["not delivered", count(callbacks, "dropped"), callbacks?.dropped ? "warn" : ""],
    ["calls paused for", count(subscriptions, "waiting_calls")],
    ["asked of VAPI", reconciled ? number(reconciled.merged + reconciled.unchanged + reconciled.missing) : placed ? "off" : "–"],
  ]);
}

export function showReplicas(replicas, now) {
  const here = (replicas ?? []).filter((replica) => now - Date.parse(replica.last_seen) < 60_000).sort((a, b) => a.id.localeCompare(b.id));
  const body = at("replicas");
  while (body.children.length > here.length) body.lastChild.remove();
  while (body.children.length < here.length) {
    const row = document.createElement("tr");
    row.append(...Array.from({ length: 6 }, () => document.createElement("td")));
    body.append(row);
  }
  here.forEach((replica, index) => {
    const cells = body.children[index].children;
    const silentMs = now - Date.parse(replica.last_seen);
    body.children[index].className = silentMs > 10_000 ? "silent" : "";
    setText(cells[0], replica.id);
    setText(cells[1], silentMs > 10_000 ? `silent ${age(silentMs)}` : age(now - Date.parse(replica.started_at)));
    setText(cells[2], number(replica.parked_polls));
    setText(cells[3], replica.spool ? number(replica.spool.waiting) : "none set");
    setText(cells[4], number(replica.processes));
    setText(cells[5], replica.version);
  });
  setText(at("replicas-count"), replicas ? `${here.length}` : "");
}
