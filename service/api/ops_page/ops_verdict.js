// Says what is wrong, or what is watched while nothing is.

import { setText } from "./ops_view.js";

const at = (id) => document.getElementById(id);
const WATCHED = ["Redis takes webhooks and answers soon", "Redis notifies the polls that wait", "no webhook waits in a spool", "every replica writes its counts",
  "webhooks carry a valid proof", "reports come, and calls end", "calls are placed, executions resumed, callbacks delivered"];

let shownProblems = "";

/** Problems as links to the runbook, and the verdict on them in the bar and the title. */
export function showProblems(problems) {
  const bad = problems.filter((problem) => problem.level === "bad").length;
  const warn = problems.filter((problem) => problem.level === "warn").length;
  const verdict = bad ? `${bad === 1 ? "1 thing is" : `${bad} things are`} wrong` : warn ? `${warn === 1 ? "1 thing needs" : `${warn} things need`} a look` : "All is well";
  setText(at("verdict"), verdict);
  at("verdict").dataset.level = bad ? "bad" : warn ? "warn" : "good";
  document.title = bad || warn ? `${verdict} · vapi-cache` : "Operations · vapi-cache";
  const key = JSON.stringify(problems.map(({ section, title }) => [section, title]));
  if (key === shownProblems) { // keep the links: somebody may be about to use one
    problems.forEach((problem, index) => setText(at("problems").children[index].querySelector("p"), problem.text));
    return;
  }
  shownProblems = key;
  at("problems").replaceChildren(...(problems.length ? problems.map(itemOf) : [nothingWrong()]));
}

function itemOf({ level, section, title, text }) {
  const item = document.createElement("li");
  item.className = level;
  const head = document.createElement("h3");
  head.textContent = title;
  const body = document.createElement("p");
  body.textContent = text;
  const link = document.createElement("a");
  link.href = `/ops/runbook#${section}`;
  link.target = "_blank";
  link.rel = "noopener";
  link.textContent = "What to do";
  link.setAttribute("aria-label", `What to do: ${title} (runbook, opens a new tab)`);
  item.append(head, body, link);
  return item;
}

function nothingWrong() {
  const item = document.createElement("li");
  item.className = "good";
  const head = document.createElement("h3");
  head.textContent = "Nothing";
  const body = document.createElement("p");
  body.textContent = "All that this page watches is as it should be:";
  const watched = document.createElement("ul");
  watched.append(...WATCHED.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  item.append(head, body, watched);
  return item;
}
