// Reads the service's stream of events with fetch, because EventSource cannot send a token in a header.

const MOST_BEFORE_EVENT = 5_000_000; // characters without the end of an event: not our service

/** One stream at a time. `onEvent(name, data)` is called for each event, `onEnd()` when the stream ends by itself. */
export class EventStream {
  #path;
  #onEvent;
  #onEnd;
  #open = null; // the AbortController of the open stream
  #lastEventId = null;

  constructor(path, onEvent, onEnd) {
    this.#path = path;
    this.#onEvent = onEvent;
    this.#onEnd = onEnd;
  }

  get isOpen() {
    return this.#open !== null;
  }

  /** Does nothing where it is open. */
  async open(token) {
    if (this.#open) return;
    const mine = (this.#open = new AbortController());
    try {
      await this.#read(token, mine);
    } catch {
      // However it ended: the page reads for itself, and says what is wrong.
    }
    if (this.#open !== mine) return;
    this.#open = null;
    this.#onEnd();
  }

  close() {
    const open = this.#open;
    this.#open = null;
    open?.abort();
  }

  async #read(token, mine) {
    const headers = { Accept: "text/event-stream" };
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    if (this.#lastEventId !== null) headers["Last-Event-ID"] = this.#lastEventId;
    const answer = await fetch(this.#path, { headers, cache: "no-store", credentials: "omit", redirect: "error", signal: mine.signal });
    if (!answer.ok || answer.headers.get("Content-Type") !== "text/event-stream") {
      mine.abort();
      return;
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; rest.length < MOST_BEFORE_EVENT;) {
      const { done, value } = await reader.read();
      if (done || this.#open !== mine) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.#take(block);
    }
    mine.abort();
  }

  #take(block) {
    const fields = new Map();
    for (const line of block.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2));
    }
    this.#lastEventId = fields.get("id") ?? this.#lastEventId;
    if (fields.has("data")) this.#onEvent(fields.get("event"), JSON.parse(fields.get("data")));
  }
}
