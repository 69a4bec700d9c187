// The page: it shows what the server sends, and asks it for four things. All text is set as text.

import { Network } from '/network.js';

const $ = id => document.getElementById(id);
const kinds = ['task', 'claim', 'result', 'acceptance', 'observation', 'message'];
const states = ['open', 'claimed', 'solved', 'done', 'failed'];
const network = new Network($('network'));

/** Makes an element. */
function make(name, className, ...children) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

/** Sets a text, if it is another one. */
function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

/** Keeps a list of elements by key, so that focus and animations survive a change. */
function keep(list, items, key, create, update) {
  const old = new Map([...list.children].map(e => [e.dataset.key, e]));
  let at = list.firstElementChild;
  for (const item of items) {
    const k = key(item);
    let e = old.get(k);
    old.delete(k);
    if (!e) {
      e = create(item);
      e.dataset.key = k;
    }
    if (e === at) at = at.nextElementSibling;
    else list.insertBefore(e, at);
    update(e, item);
  }
  for (const e of old.values()) e.remove();
}

async function order(path, fields) {
  const res = await fetch(path, { method: 'POST', body: new URLSearchParams(fields) });
  if (!res.ok) throw new Error(await res.text());
}

/** Makes a button that asks the server for something. */
function button(text, label, className, path, fields) {
  const b = make('button', className, text);
  b.type = 'button';
  b.setAttribute('aria-label', label);
  b.addEventListener('click', async () => {
    b.disabled = true;
    try { await order(path, fields); } catch { /* the next state shows what has happened */ }
    setTimeout(() => { b.disabled = false; }, 600);
  });
  return b;
}

/* The state. */

const names = new Map();

function showState(s) {
  for (const a of s.agents) names.set(a.did, a.name);
  network.show(s.agents);
  say($('agents-more'), s.total > s.agents.length ? `${s.total}, of which ${s.agents.length} are shown` : '');
  keep($('agents'), s.agents, a => a.did, createAgent, updateAgent);
  showCounts(s.counts);
  keep($('task-list'), s.tasks, t => t.uri, createTask, updateTask);
  keep($('queue'), [['waiting', s.queue.due], ['leased or delayed', s.queue.later], ['dead', s.queue.dead], ['open objects', s.objects]], q => q[0], createCount, updateCount);
  keep($('dead'), s.dead, d => d.id, createDead, () => {});
  $('no-dead').hidden = s.dead.length > 0;
  say($('process'), `Process ${s.pid}. Brain: ${s.brain}. The relay has passed on event ${s.relay}; the index is ${s.index >= s.relay ? 'there, too' : 'at ' + s.index}.`);
}

function createAgent(a) {
  const li = make('li', '', make('strong', '', a.name, make('span', 'state')),
    button('Kill', `Kill ${a.name}`, 'small danger', '/kill-agent', { agent: a.did }), make('p', 'doing'), make('p', 'rev', make('code')));
  li.title = a.did;
  return li;
}

function updateAgent(li, a) {
  if (li.className !== a.state) li.className = a.state;
  say(li.querySelector('.state'), a.state + (a.waiting ? `, ${a.waiting} waiting` : ''));
  say(li.querySelector('.doing'), a.state === 'awake' && a.doing ? a.doing : `can ${a.capabilities.join(', ')}`);
  say(li.querySelector('code'), `rev ${a.rev || '–'}`);
}

function showCounts(counts) {
  keep($('counts'), states.map(s => [s, counts[s] || 0]), c => c[0], createCount, updateCount);
  keep($('bar'), states.map(s => [s, counts[s] || 0]), c => c[0], c => make('i', `s-${c[0]}`), (e, c) => { e.style.flexGrow = c[1]; });
}

function createCount([name]) {
  return make('div', states.includes(name) ? `s-${name}` : 'plain', make('dt', '', name), make('dd'));
}

function updateCount(e, [, n]) { say(e.querySelector('dd'), String(n)); }

function createTask(t) {
  return make('li', 'new', make('span', 'tag'), make('span', 'text', `${t.record.kind}: ${t.record.text}`), make('span', 'who'));
}

function updateTask(li, t) {
  li.classList.remove(...states.map(s => `s-${s}`));
  li.classList.add(`s-${t.state}`);
  say(li.children[0], t.state);
  const blob = t.result?.artifact;
  const who = li.children[2];
  if (blob && t.by) {
    if (!who.querySelector('img')) {
      const img = make('img');
      img.alt = `${t.result.output}, by ${names.get(t.by) || t.by}`;
      img.src = `/blob/${encodeURIComponent(t.by)}/${blob.ref.$link}`;
      who.replaceChildren(img);
    }
  } else say(who, names.get(t.by) || '');
  if (t.result && !blob) li.children[1].title = t.result.output;
}

function createDead(d) {
  return make('li', 's-failed', make('span', 'tag', d.kind), make('span', 'text', `given up after ${d.attempts} attempts`),
    button('Forget', `Forget the dead letter of ${d.kind}`, 'small', '/forget', { job: d.id }), make('span', 'wrap', d.error));
}

/* The stream. */

const shown = 16;

function showEvent(e) {
  const fresh = Date.now() - Date.parse(e.time) < 10_000;
  const list = $('stream');
  const items = e.ops.length ? e.ops : [{ collection: e.kind, text: '' }];
  for (const o of items) {
    if (fresh) network.flow(e.did, o.to, o.collection);
    const verb = o.action === 'delete' ? 'deletes: ' : o.action === 'update' ? 'again: ' : '';
    const li = make('li', `c-${o.collection}${fresh ? ' new' : ''}`, make('span', 'tag', o.collection),
      make('span', 'text', verb + (o.text || (o.name ? `for ${o.name}` : ''))), make('span', 'who', `${e.by || e.did}${o.name && o.to !== e.did ? ' → ' + o.name : ''}`));
    li.title = `event ${e.seq}, ${e.time}`;
    list.prepend(li);
  }
  while (list.childElementCount > shown) list.lastElementChild.remove();
}

/* The search. */

$('search').addEventListener('submit', async event => {
  event.preventDefault();
  const text = $('q').value.trim();
  if (!text) return;
  const res = await fetch('/search?' + new URLSearchParams({ q: text }));
  const hits = res.ok ? await res.json() : [];
  $('hits').replaceChildren(...hits.map(h => {
    const line = make('span', 'wrap');
    let at = 0;
    for (const [from, to] of h.marks) {
      line.append(h.text.slice(at, from), make('mark', '', h.text.slice(from, to)));
      at = to;
    }
    line.append(h.text.slice(at));
    const how = [h.ranks[0] ? `words ${h.ranks[0]}` : '', h.ranks[1] ? `likeness ${h.ranks[1]}` : ''].filter(Boolean).join(', ');
    return make('li', `c-${h.collection}`, make('span', 'tag', h.collection), make('span', 'text', h.by), make('span', 'who', how), line);
  }));
  say($('no-hits'), res.ok ? (hits.length ? '' : 'Nothing was found.') : 'This cannot be searched for.');
});

/* The connection. The browser comes back by itself, and says the last event that it has. */

$('legend').replaceChildren(...kinds.map(k => make('li', `c-${k}`, k)));
$('kill-process').addEventListener('click', () => order('/kill-process', {}).catch(() => {}));

function connected(yes) {
  $('link').className = yes ? 'on' : 'off';
  say($('link'), yes ? 'Live' : 'The process is gone; it comes back');
}

function connect() {
  const source = new EventSource('/events');
  source.addEventListener('open', () => connected(true));
  source.addEventListener('error', () => {
    connected(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
  source.addEventListener('relay', e => showEvent(JSON.parse(e.data)));
  source.addEventListener('state', e => showState(JSON.parse(e.data)));
  source.addEventListener('gap', () => $('stream').replaceChildren());
}

connect();
