// Who is behind a client id. The server knows no names in development; this page knows those of its own clients.

export class Names extends EventTarget {
  #known = new Map();

  /** Says whose id this is; `change` tells others. */
  set(client, name) {
    this.#known.set(client, name);
    this.dispatchEvent(new Event('change'));
  }

  of(client) { return this.#known.get(client) ?? `guest ${client.slice(0, 4)}`; }
}
