// Waiting for things to happen, always with a limit and a name for what did not.

import { setTimeout as delay } from 'node:timers/promises';

/** Milliseconds after which a wait has failed. */
export const PATIENCE = 10_000;

/** The promise, or an error that names what was waited for. */
export async function within(what, promise, timeout = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing after ${timeout} ms: ${what}`)), timeout);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks until the answer is truthy. For states of another process that announces nothing. */
export async function eventually(what, ask, { timeout = PATIENCE, every = 20 } = {}) {
  const end = Date.now() + timeout;
  let last;
  do {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = undefined;
    } catch (error) {
      if (error.final) throw error;
      last = error;
    }
    await delay(every);
  } while (Date.now() < end);
  throw new Error(`not within ${timeout} ms: ${what}${last ? ` (${last.message})` : ''}`);
}

/** The events of one emitter in the order they came, taken one by one. */
export class Record {
  constructor(emitter, names, what = 'event') {
    this.all = [];
    this.taken = 0;
    this.what = what;
    this.waiting = [];
    for (const name of names) {
      emitter.on(name, (context) => {
        this.all.push({ name, ...context });
        for (const wake of this.waiting.splice(0)) wake();
      });
    }
  }

  /** The next event; of this name if one is given, passing over others. */
  async next(name, timeout = PATIENCE) {
    const end = Date.now() + timeout;
    for (;;) {
      while (this.taken < this.all.length) {
        const event = this.all[this.taken];
        this.taken += 1;
        if (name === undefined || event.name === name) return event;
      }
      const seen = this.all.map((event) => `${event.name}${event.code === undefined ? '' : ` ${event.code}`}`).slice(-12);
      await within(`${this.what} ${name ?? ''} (seen: ${seen.join(', ')})`,
        new Promise((resolve) => { this.waiting.push(resolve); }), Math.max(1, end - Date.now()));
    }
  }

  /** The next `count` events of this name. */
  async take(name, count, timeout = PATIENCE) {
    const out = [];
    while (out.length < count) out.push(await this.next(name, timeout));
    return out;
  }

  of(name) { return this.all.filter((event) => event.name === name); }
}
