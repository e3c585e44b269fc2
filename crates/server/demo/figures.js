// Connections and rates of the server, read from its metrics once a second.

const EVERY_MS = 1000;
const KEPT = 60;

/** Shows the figures for as long as the page is open. `url` of the metrics, or null where this page cannot reach them. */
export function showFigures(url) {
  if (url === null) return;
  const deliveries = [];
  let before;
  const read = async () => {
    if (document.hidden) return;
    let now;
    try {
      now = parse(await (await fetch(url)).text(), performance.now());
    } catch {
      // The server is away; what is shown would be wrong.
      now = undefined;
    }
    show('connections', now?.connections);
    const rates = now && before ? ratesBetween(before, now) : undefined;
    show('messages', rates?.messages, 1);
    show('deliveries', rates?.deliveries, 1);
    if (rates) draw(deliveries, rates.deliveries);
    before = now;
  };
  read();
  setInterval(read, EVERY_MS);
}

/** Figures of one scrape, at a time in milliseconds. */
function parse(text, at) {
  const value = (name) => Number(text.match(new RegExp(`^${name} (\\S+)$`, 'm'))?.[1]);
  return {
    at,
    connections: value('tidewire_connections'),
    messages: value('tidewire_publications_total'),
    deliveries: value('tidewire_deliveries_total'),
  };
}

function ratesBetween(before, now) {
  const seconds = (now.at - before.at) / 1000;
  // A counter that went back belongs to a server that was started again.
  const rate = (name) => Math.max(0, now[name] - before[name]) / seconds;
  return { messages: rate('messages'), deliveries: rate('deliveries') };
}

function show(id, value, digits = 0) {
  const known = Number.isFinite(value);
  document.getElementById(id).textContent = known ? value.toFixed(value < 100 ? digits : 0) : '–';
}

function draw(kept, newest) {
  kept.push(newest);
  if (kept.length > KEPT) kept.shift();
  const top = Math.max(5, ...kept);
  const points = kept.map((value, at) => `${KEPT - kept.length + at},${(19 - (value / top) * 18).toFixed(1)}`);
  document.querySelector('#trend polyline').setAttribute('points', points.join(' '));
}
