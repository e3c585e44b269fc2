// What one pane looks like. It knows no client: it shows what it is told, and calls back.

/** Lines kept in a pane; older ones go. */
const LINES_MAX = 200;

export class View {
  #name;
  #root;
  #list;
  #wants;
  #cut = false;

  /** A pane named after its client, at the end of `parent`. */
  constructor(parent, name, tone) {
    this.#root = document.getElementById('pane').content.cloneNode(true).firstElementChild;
    this.#root.dataset.tone = tone;
    this.#list = this.#find('ol');
    this.#find('h2').textContent = name;
    this.#label(this.#root, `Client ${name}`);
    this.#label(this.#find('.present'), `Present as ${name} sees it`);
    this.#label(this.#find('.log'), `Messages ${name} has`);
    this.#label(this.#find('input'), `Message from ${name}`);
    this.#label(this.#find('form button'), `Send as ${name}`);
    this.#name = name;
    this.#nameButton();
    this.#listen();
    parent.append(this.#root);
  }

  /** `send` resolves to whether it was sent. */
  on({ send, cut, restore }) { this.#wants = { send, cut, restore }; }

  state(state) {
    this.#root.dataset.state = state.kind;
    const line = this.#find('.state');
    const text = wordsFor(state);
    // Said aloud by a screen reader only when it changes.
    if (line.textContent !== text) line.textContent = text;
    line.dataset.caughtUp = state.caughtUp?.kind ?? '';
    this.#find('.position').textContent = positionOf(state);
    this.#find('form button').disabled = state.kind !== 'live';
    this.#cut = state.kind === 'cut';
    this.#nameButton();
  }

  message({ offset, sender, text, recovered }) {
    const line = element('li', 'message');
    line.classList.toggle('recovered', recovered);
    line.classList.toggle('own', sender === this.#name);
    line.append(
      element('span', 'offset', offset === undefined ? '' : `#${offset}`),
      element('b', 'sender', sender),
      element('span', 'text', text),
    );
    if (recovered) line.append(element('span', 'tag', 'recovered'));
    this.#append(line);
  }

  /** A line that is no message. */
  mark(text) { this.#append(element('li', 'mark', text)); }

  present(names) {
    this.#find('.present').replaceChildren(...names.map((name) => element('li', '', name)));
  }

  #append(line) {
    this.#list.append(line);
    while (this.#list.childElementCount > LINES_MAX) this.#list.firstElementChild.remove();
    const log = this.#find('.log');
    log.scrollTop = log.scrollHeight;
  }

  #listen() {
    this.#find('.cut').addEventListener('click', () => (this.#cut ? this.#wants.restore() : this.#wants.cut()));
    this.#find('form').addEventListener('submit', async (event) => {
      event.preventDefault();
      const input = this.#find('input');
      const text = input.value.trim();
      if (text === '') return;
      input.value = '';
      const sent = await this.#wants.send(text);
      if (!sent && input.value === '') input.value = text;
    });
  }

  #nameButton() {
    const button = this.#find('.cut');
    button.textContent = this.#cut ? 'Restore the network' : 'Cut the network';
    this.#label(button, `${button.textContent} of ${this.#name}`);
  }

  #label(element, text) { element.setAttribute('aria-label', text); }

  #find(selector) { return this.#root.querySelector(selector); }
}

function wordsFor(state) {
  switch (state.kind) {
    case 'connecting': return 'connecting';
    case 'cut': return `network cut at offset ${state.offset}`;
    case 'failed': return `stopped: ${state.reason}`;
    default: return caughtUpWords(state.caughtUp);
  }
}

function caughtUpWords(caughtUp) {
  if (caughtUp === undefined) return 'live';
  const { kind, from, count } = caughtUp;
  if (kind === 'gap') return `live, but what came after offset ${from} is no longer in the history`;
  if (count === 0) return `back, nothing was missed since offset ${from}`;
  return `recovered ${count} missed ${count === 1 ? 'message' : 'messages'} from offset ${from}`;
}

function positionOf(state) {
  if (state.kind === 'live') return `at offset ${state.offset}`;
  if (state.kind !== 'cut') return '';
  return `${state.refused} ${state.refused === 1 ? 'attempt' : 'attempts'} refused`;
}

function element(tag, className, text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
