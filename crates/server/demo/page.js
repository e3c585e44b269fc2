// The demo page: two clients side by side, the server's figures above, a backend below.
//
// `pane`: a client. `view`: what it looks like. `cable`: its network. `names`: who is who. `figures`: the server now.
// `traffic`: a backend that publishes.

import { showFigures } from './figures.js';
import { Names } from './names.js';
import { Pane } from './pane.js';
import { offerTraffic } from './traffic.js';
import { View } from './view.js';

const CHANNEL = 'demo';

/** Paths on this server: { websocket, metrics, api }. The last two are null where another listener serves them. */
const settings = await (await fetch('/demo/settings.json')).json();

const url = new URL(settings.websocket, location.href);
url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';

const names = new Names();
const panes = document.getElementById('panes');
for (const [name, tone] of [['Ada', 'first'], ['Ben', 'second']]) {
  new Pane({ name, url: url.href, channel: CHANNEL, names, view: new View(panes, name, tone) });
}
showFigures(settings.metrics);
offerTraffic(settings.api, CHANNEL);
