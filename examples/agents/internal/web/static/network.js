// The drawing: agents around the relay, and what goes from one to another.

const still = matchMedia('(prefers-reduced-motion: reduce)');
const space = 'http://www.w3.org/2000/svg';
const centre = { x: 320, y: 196 };

/** Makes an SVG element. */
function draw(name, attributes, ...children) {
  const e = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

/** Network draws into an SVG element. */
export class Network {
  constructor(svg) {
    this.nodes = new Map(); // by DID: { x, y, group, doing, wire }
    this.wires = draw('g', {});
    this.agents = draw('g', {});
    this.dots = draw('g', {});
    this.ring = draw('circle', { class: 'ring', cx: centre.x, cy: centre.y, r: 30 });
    svg.append(this.wires, this.ring, draw('circle', { class: 'relay', cx: centre.x, cy: centre.y, r: 30 }),
      draw('text', { x: centre.x, y: centre.y + 4 }, 'relay'), this.dots, this.agents);
  }

  /** Shows agents, and places them anew if there are others than before. */
  show(agents) {
    if (agents.length !== this.nodes.size || agents.some(a => !this.nodes.has(a.did))) this.place(agents);
    for (const a of agents) {
      const node = this.nodes.get(a.did);
      node.group.setAttribute('class', a.state);
      const text = a.state === 'awake' ? a.doing || '' : a.state;
      if (node.doing.textContent !== text) node.doing.textContent = text;
    }
  }

  place(agents) {
    this.nodes.clear();
    this.wires.replaceChildren();
    this.agents.replaceChildren();
    const many = agents.length > 12;
    agents.forEach((a, i) => {
      const angle = -Math.PI / 2 + 2 * Math.PI * i / agents.length;
      const x = centre.x + Math.cos(angle) * 238, y = centre.y + Math.sin(angle) * 142;
      const wire = draw('line', { class: 'wire', x1: centre.x, y1: centre.y, x2: x, y2: y });
      const up = Math.sin(angle) < -.8; // the wire goes down from there, so the name is above
      const doing = draw('text', { class: 'doing', x, y: up ? y - 30 : y + 53 });
      const group = draw('g', {}, draw('circle', { class: 'node', cx: x, cy: y, r: many ? 10 : 22 }));
      if (!many) {
        group.append(draw('text', { class: 'initial', x, y }, a.name[0]), draw('text', { x, y: up ? y - 45 : y + 38 }, a.name), doing);
      }
      this.wires.append(wire);
      this.agents.append(group);
      this.nodes.set(a.did, { x, y, group, doing, wire });
    });
  }

  /** Shows that a record went from an agent to the relay, and from there to another agent, if there is one. */
  flow(from, to, collection) {
    const a = this.nodes.get(from), b = this.nodes.get(to);
    if (!a || document.hidden || this.dots.childElementCount > 40) return;
    if (still.matches) {
      for (const node of [a, b]) {
        node?.wire.classList.add('lit');
        setTimeout(() => node?.wire.classList.remove('lit'), 900);
      }
      return;
    }
    const dot = draw('circle', { class: `dot c-${collection}`, r: 4.5 });
    this.dots.append(dot);
    const way = b && b !== a ? [a, centre, b] : [a, centre];
    const begin = performance.now(), leg = 620;
    const step = now => {
      const t = Math.max(0, now - begin) / leg, i = Math.floor(t);
      if (i >= way.length - 1) {
        dot.remove();
        if (way.length === 2) this.pulse();
        return;
      }
      const f = t - i, ease = f * f * (3 - 2 * f);
      dot.setAttribute('cx', way[i].x + (way[i + 1].x - way[i].x) * ease);
      dot.setAttribute('cy', way[i].y + (way[i + 1].y - way[i].y) * ease);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  /** Shows that the relay has taken something that is for everybody. */
  pulse() {
    this.ring.animate([{ r: '30px', opacity: .5 }, { r: '64px', opacity: 0 }], { duration: 900, easing: 'ease-out' });
  }
}
