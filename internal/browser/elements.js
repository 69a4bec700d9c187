// Functions that find elements as a person does. They are evaluated in the page before each use.
const tidy = s => (s || '').replace(/\s+/g, ' ').trim();
const shown = el => el.checkVisibility({ visibilityProperty: true }) && el.getClientRects().length > 0;
const nameOf = el => {
  const by = el.getAttribute('aria-labelledby');
  if (by) return tidy(by.split(/\s+/).map(id => document.getElementById(id)?.textContent).join(' '));
  if (el.hasAttribute('aria-label')) return tidy(el.getAttribute('aria-label'));
  if (el.labels && el.labels.length) return tidy([...el.labels].map(l => l.textContent).join(' '));
  if (el.tagName === 'INPUT' && (el.type === 'submit' || el.type === 'button')) return tidy(el.value);
  return tidy(el.textContent || el.querySelector?.('img')?.alt || el.title || el.placeholder);
};
const kinds = {
  field: 'input:not([type=hidden]):not([type=submit]):not([type=button]), select, textarea',
  press: 'button, a[href], summary, input[type=submit], input[type=button], input[type=checkbox], input[type=radio], [role=button]',
};
// find returns the element with a name. An exact name is better than one that only begins with it, and
// that better than one that has it somewhere.
const find = (kind, name) => {
  const all = [...document.querySelectorAll(/^[#.[]/.test(name) ? name : kinds[kind])];
  if (/^[#.[]/.test(name)) return all.find(shown) || null;
  const named = all.filter(shown).map(el => [nameOf(el), el]);
  for (const fits of [n => n === name, n => n.startsWith(name), n => n.includes(name)]) {
    const found = named.filter(([n]) => fits(n));
    if (found.length > 1) throw new Error(`${found.length} elements are named ${name}: ${found.map(([n, el]) => el.outerHTML.slice(0, 120)).join(' ')}`);
    if (found.length) return found[0][1];
  }
  return null;
};
const names = kind => [...document.querySelectorAll(kinds[kind])].filter(shown).map(nameOf);
// point is where to click an element, after it was scrolled into view.
const point = el => {
  el.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
  const r = el.getClientRects()[0], x = r.left + r.width / 2, y = r.top + r.height / 2;
  const top = document.elementFromPoint(x, y);
  if (!top || !(top === el || el.contains(top) || [...(el.labels || [])].some(l => l.contains(top)))) {
    throw new Error(`${el.outerHTML.slice(0, 200)} is covered by ${top ? top.outerHTML.slice(0, 200) : 'nothing'}`);
  }
  return { x, y };
};
