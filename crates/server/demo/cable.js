// The network of one pane. It can be cut: the open socket is closed, and no other opens until it is restored.

/** A socket that never opens, as a network that is down gives. */
class DeadSocket {
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;
  #ended = false;

  constructor() {
    // Handlers are set by whoever made it, once this has returned.
    setTimeout(() => this.close());
  }

  send() {}

  close() {
    if (this.#ended) return;
    this.#ended = true;
    this.onclose?.({ code: 1006, reason: '' });
  }
}

/** Emits `online` when it is restored, which makes a client try again at once, and `refused` for every attempt before. */
export class Cable extends EventTarget {
  #sockets = new Set();
  #cut = false;

  /** A constructor to use in place of `WebSocket`. */
  get WebSocket() {
    const open = (...args) => this.#open(...args);
    return function Socket(url, protocols) { return open(url, protocols); };
  }

  get isCut() { return this.#cut; }

  cut() {
    this.#cut = true;
    for (const socket of this.#sockets) socket.close();
  }

  restore() {
    this.#cut = false;
    this.dispatchEvent(new Event('online'));
  }

  #open(url, protocols) {
    if (this.#cut) {
      this.dispatchEvent(new Event('refused'));
      return new DeadSocket();
    }
    const socket = protocols === undefined ? new WebSocket(url) : new WebSocket(url, protocols);
    this.#sockets.add(socket);
    socket.addEventListener('close', () => this.#sockets.delete(socket));
    return socket;
  }
}
