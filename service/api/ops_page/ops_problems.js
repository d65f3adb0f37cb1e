// What is wrong right now, in words: a pure function of what the page has read.
// Each section is the anchor of a heading in deploy/RUNBOOK.md.

const SILENT_MS = 10_000; // a replica writes its counts every second
const GONE_MS = 120_000; // one that is silent for longer was stopped, and is no news
const SLOW_MS = 50; // Redis answers a write within a millisecond or two
const LONG_CALL_MS = 3_600_000; // few calls take an hour; VAPI ends them after twelve
const LATE_REPORT_MS = 45_000; // reports come within seconds; after REPORT_GRACE_S a call is final without one
const FEW = 10; // below this many calls a rate says little

const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const seconds = (ms) => (ms < 120_000 ? plural(Math.round(ms / 1000), "second") : plural(Math.round(ms / 60_000), "minute"));

/** Problems, the worst first. `read.before` are the stats of about a minute ago, `read.awaySince` is null while the service answers. */
export function findProblems(read) {
  const found = [];
  const add = (level, section, title, text) => found.push({ level, section, title, text });
  if (read.awaySince !== null) {
    add("bad", "vapiallreplicasdown", "The service does not answer",
      `Nothing has answered for ${seconds(read.now - read.awaySince)}: ${read.awayReason}. What you see below is older than that.`);
    return found;
  }
  if (read.health) ofHealth(read.health, read.stats, add);
  if (read.stats === null && read.health?.dependencies.redis.status === "ok") {
    add("bad", "vapiredisaway", "The stats cannot be read", sentence(read.statsError));
  }
  if (read.stats) {
    ofStore(read.stats, add);
    ofReplicas(read.stats, read.now, add);
    ofCalls(read.stats, read.now, add);
    if (read.before) ofGrowth(read.stats, read.before, add);
  }
  const order = ["bad", "warn", "note"];
  return found.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function ofHealth(health, stats, add) {
  const { redis, notifications, spool, kestra, archive } = health.dependencies;
  const masters = Object.entries(redis.masters ?? {}).filter(([, master]) => master.status !== "ok");
  if (redis.status === "down") {
    const fate = !spool ? "Webhooks are refused with 503, and VAPI has to repeat them"
      : spool.status === "ok" ? "Webhooks go to the spool and are acknowledged" : "The spool has no room either: webhooks are refused with 503";
    add("bad", "vapiredisaway", "Redis takes no webhooks", `${sentence(redis.problem)} ${fate}; polls get 503 or wait. The figures are those of before.`);
  } else if (redis.status === "degraded") {
    const names = masters.map(([name, master]) => (master.problem ? `${name} (${master.problem})` : name)).join(", ");
    add("bad", "vapiredisaway", "A part of Redis takes no webhooks",
      `Master ${names} fails. Webhooks and polls of the calls that it holds fail; those of all other calls go on.`);
  }
  if (notifications.status !== "ok" && redis.status === "ok") {
    add("warn", "vapinotificationslost", "Redis sends no notifications", "Waiting polls return up to 2 seconds late.");
  }
  if (spool && spool.status !== "ok") {
    add("bad", "vapispoolfilling", "The spool has no room", "It is full or its disk fails. If Redis goes away now, webhooks are refused.");
  }
  if (kestra && kestra.status !== "ok") {
    add("warn", "vapisubscriptionsundelivered", "Kestra does not answer", `${sentence(kestra.problem)} Paused executions are resumed once it is back.`);
  }
  if (archive && archive.status !== "ok") {
    const trouble = archive.problem ? sentence(archive.problem) : `The oldest change has waited for ${seconds(archive.backlog_age_s * 1000)}.`;
    add("warn", "vapiarchivebehind", "Calls do not come into the archive", `${trouble} ${plural(archive.backlog, "change")} ${archive.backlog === 1 ? "waits" : "wait"} in Redis, for a day at most.`);
  }
  if (health.draining) add("note", "vapireplicadown", "The replica that answers is stopping", "It was told to stop and finishes its requests.");
}

function ofStore(stats, add) {
  const { writable, latency_ms: latency } = stats.store;
  if (writable && latency > SLOW_MS) {
    add("warn", "vapiredisslow", "Redis is slow", `The last write took ${Math.round(latency)} ms. Above STORE_TIMEOUT_S, webhooks are spooled or refused.`);
  }
  if (stats.missing_buckets) {
    add("bad", "vapiredisaway", "Some calls are not shown", `${plural(stats.missing_buckets.length, "bucket")} of 32 did not answer; their calls are neither counted nor listed.`);
  }
  const spools = stats.replicas ? stats.replicas.map((replica) => replica.spool) : [stats.store.spool];
  const waiting = total(spools, "waiting"), rejected = total(spools, "rejected");
  if (rejected) add("warn", "vapispoolsetaside", "Spooled webhooks were set aside", `${plural(rejected, "webhook")} could never be merged. Look at ${rejected === 1 ? "it" : "them"} with “spool show”.`);
  if (waiting) add(writable ? "note" : "warn", "vapispoolwaiting", "Webhooks wait in the spool", `${plural(waiting, "webhook")} ${waiting === 1 ? "waits" : "wait"} to be merged ${writable ? "now that Redis is back" : "once Redis is back"}.`);
}

const total = (spools, name) => spools.reduce((sum, spool) => sum + (spool?.[name] ?? 0), 0);

function ofReplicas(stats, now, add) {
  const silent = (stats.replicas ?? []).filter((replica) => isBetween(now - Date.parse(replica.last_seen), SILENT_MS, GONE_MS));
  for (const replica of silent) {
    add("warn", "a-replica-is-silent", `Replica ${replica.id} is silent`, `It was last heard of ${seconds(now - Date.parse(replica.last_seen))} ago. It was stopped or killed, or cannot reach Redis.`);
  }
  const here = (stats.replicas ?? []).filter((replica) => now - Date.parse(replica.last_seen) <= SILENT_MS);
  const versions = [...new Set(here.map((replica) => replica.version))];
  if (versions.length > 1) {
    add("note", "a-new-version-misbehaves", "Replicas run several versions", `${versions.join(" and ")} serve side by side, as during a rolling update.`);
  }
}

const isBetween = (value, least, most) => value > least && value <= most;

function ofCalls(stats, now, add) {
  const among = `of the ${stats.entries.length} newest calls`;
  const count = (matches) => stats.entries.filter(matches).length;
  const missed = count((call) => call.dataStatus === "fetch_failed");
  if (missed) add("warn", "vapireportsmissing", "Reports did not come", `${missed} ${among} ended without a full report. Their results are missing.`);
  const late = count((call) => call.dataStatus === "partial" && now - call.overAt > LATE_REPORT_MS);
  if (late) add("note", "vapireportsmissing", "Reports are late", `${late} ${among} ${late === 1 ? "waits" : "wait"} for a report longer than ${seconds(LATE_REPORT_MS)}.`);
  const stuck = count((call) => call.dataStatus === "pending" && now - call.timestamp > LONG_CALL_MS);
  if (stuck) add("warn", "vapicallsstuck", "Calls are stuck", `${stuck} ${among} began more than an hour ago and ${stuck === 1 ? "has" : "have"} not ended.`);
  const toFix = stats.entries.filter((call) => call.retry === "fix");
  if (toFix.length) add("warn", "vapicallsfailing", "Calls fail until somebody acts", `${toFix.length} ${among} would fail again, the last with “${toFix[0].endedReason}”.`);
  const { ended, completion_rate: rate } = stats.calls ?? {};
  if (!missed && ended >= FEW && rate < 0.9) {
    add("warn", "vapireportsmissing", "Many calls have no full report", `${Math.round((1 - rate) * 100)} % of ${plural(ended, "call")} ended without one.`);
  }
}

function ofGrowth(stats, before, add) {
  const grown = (group, name) => Math.max(0, (stats[group]?.[name] ?? 0) - (before[group]?.[name] ?? stats[group]?.[name] ?? 0));
  const failed = grown("webhooks", "failed"), unauthorized = grown("webhooks", "unauthorized");
  if (failed) add("bad", "vapiwebhooksrefused", "Webhooks were refused", `${plural(failed, "webhook")} in the last minute could be kept neither in Redis nor in a spool.`);
  if (unauthorized) add("warn", "vapisecretsdrifted", "Webhooks lack a valid proof", `${plural(unauthorized, "webhook")} in the last minute got 401: VAPI's secret and VAPI_WEBHOOK_SECRET differ, or strangers try.`);
  const invalid = grown("webhooks", "invalid");
  if (invalid) add("note", "webhooks-are-not-understood", "Webhooks are not understood", `${plural(invalid, "webhook")} in the last minute got 400.`);
  const unknown = grown("placed", "unknown");
  if (unknown) add("bad", "vapicalloutcomeunknown", "Nobody knows whether a call was placed", `${plural(unknown, "request")} in the last minute ended without an answer of VAPI. Look there whether it rang.`);
  const notPlaced = grown("placed", "failed");
  if (notPlaced) add("warn", "vapiapifailing", "Calls were not placed", `${plural(notPlaced, "request")} in the last minute failed.`);
  const dropped = grown("subscriptions", "dropped"), retried = grown("subscriptions", "retried");
  if (dropped) add("bad", "vapisubscriptionsdropped", "Executions were not resumed", `${plural(dropped, "execution")} in the last minute: Kestra refused for good.`);
  else if (retried && stats.subscriptions?.due) add("warn", "vapisubscriptionsundelivered", "Executions wait to be resumed", `${plural(stats.subscriptions.due, "execution")} could not be resumed yet and will be tried again.`);
  const undelivered = grown("callbacks", "dropped");
  if (undelivered) add("bad", "vapisubscriptionsdropped", "Callbacks were not delivered", `${plural(undelivered, "callback")} in the last minute: the receiver wants none, or was away for a day.`);
  else if (grown("callbacks", "retried") && stats.callbacks?.due) add("warn", "vapisubscriptionsundelivered", "Callbacks wait to be delivered", `${plural(stats.callbacks.due, "callback")} could not be delivered yet and will be sent again.`);
  const missing = grown("archive", "set_aside") + grown("archive", "given_up");
  if (missing) add("bad", "vapiarchiveincomplete", "Calls are missing in the archive", `${plural(missing, "change")} in the last minute: PostgreSQL refused what was written, or it waited for too long.`);
  if (grown("reconciled", "failed")) add("warn", "vapiapifailing", "VAPI does not answer", "Results whose webhook did not come cannot be fetched.");
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}.` : "It does not answer.");
