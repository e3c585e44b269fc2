// A backend: messages published over the HTTP API, by this page or from a terminal.

const EVERY_MS = 500;

/** Offers both, if the API at path `api` is within reach (it is null where it is not). */
export function offerTraffic(api, channel) {
  if (api === null) return;
  const url = new URL(`${api.replace(/\/$/, '')}/publish`, location.href).href;
  let timer;
  let count = 0;
  const publish = () => {
    count += 1;
    const body = JSON.stringify({ channel, data: { name: 'backend', text: `tick ${count}` } });
    // A tick that fails is not made up for: the next one comes soon.
    fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body }).catch(() => {});
  };
  document.getElementById('traffic').addEventListener('change', (event) => {
    clearInterval(timer);
    if (event.target.checked) timer = setInterval(publish, EVERY_MS);
  });
  document.getElementById('traffic-label').hidden = false;
  const terminal = document.getElementById('terminal');
  terminal.querySelector('code').textContent = `curl ${url} -d '{"channel":"${channel}","data":{"text":"hello"}}'`;
  terminal.hidden = false;
}
