// What changes, as it happens: one stream of this node, of the folder that is shown.
//
// It ends while the tab is hidden: a browser has few connections to one server for all of its tabs.

// A stream says something every 15 s; one that is silent for so long has come to nothing.
const SILENCE_MAX = 40000;
// With more changes at once the folder is read anew.
const EVENTS_MAX = 2000;

const live = {
  stopper: null,
  prefix: "",
  token: "",
  events: new Map(),
  isApplying: false,
  reloaded: 0,

  stop() {
    this.stopper?.abort();
    this.stopper = null;
    this.events.clear();
    this.say("", "");
  },

  // Goes on from what a list with this token has shown.
  follow(prefix, from) {
    this.stop();
    Object.assign(this, { prefix, token: from });
    if (!document.hidden) this.run();
  },

  async run() {
    this.stopper?.abort();
    const stopper = this.stopper = new AbortController();
    while (!stopper.signal.aborted) {
      try {
        await this.read(stopper);
      } catch {
        // It is called again.
      }
      if (stopper.signal.aborted) return;
      this.say("not live", "starting");
      await pause(1000 + 1000 * Math.random(), stopper.signal);
    }
  },

  async read(stopper) {
    const reading = new AbortController();
    const end = () => reading.abort();
    stopper.signal.addEventListener("abort", end);
    let silent = setTimeout(end, SILENCE_MAX);
    try {
      const fields = query({ prefix: this.prefix, since: this.token });
      const answer = await ask(`kv/?watch&keys&${fields}`, { signal: reading.signal });
      if (!answer.ok) return;
      this.say("live", "ok");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value: text, done } = await reader.read();
        if (done || stopper.signal.aborted) return;
        clearTimeout(silent);
        silent = setTimeout(end, SILENCE_MAX);
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        for (const line of lines) this.take(JSON.parse(line));
      }
    } finally {
      clearTimeout(silent);
      stopper.signal.removeEventListener("abort", end);
      reading.abort();
    }
  },

  take(event) {
    if (event.event === "sync") {
      this.token = event.token;
    } else if (event.event === "reset") {
      this.reload();
    } else if (event.event === "put" || event.event === "delete") {
      this.events.set(event.key, event);
      if (this.isApplying) return;
      this.isApplying = true;
      requestAnimationFrame(() => this.apply());
    }
  },

  apply() {
    this.isApplying = false;
    const events = [...this.events.values()];
    this.events.clear();
    for (const event of events) value.changed(event);
    if (events.length > EVENTS_MAX) return this.reload();
    for (const event of events) list.apply(event);
    if (events.length) list.foot();
  },

  // Not more often than every two seconds: what makes it necessary may go on.
  async reload() {
    const { signal } = list.stop;
    const wait = this.reloaded + 2000 - performance.now();
    this.reloaded = performance.now() + Math.max(wait, 0);
    await pause(Math.max(wait, 0), signal);
    if (!signal.aborted) list.reload();
  },

  say(text, kind) {
    at("live").textContent = text;
    at("live").className = `pill ${kind}`;
  },
};

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    live.stopper?.abort();
    live.say("", "");
  } else if (live.token) {
    live.run();
  }
});
