// Keeps the page up to date. Everything works without it, except that the page has to be loaded
// again to see what is new. Text is only ever put in as text.
"use strict";
(() => {
	const { last, me, most } = document.body.dataset;
	const $ = (id) => document.getElementById(id);
	const list = $("list"), state = $("state");

	// How long ago something was, as the server says it.
	const ago = (at) => {
		const minutes = Math.floor((Date.now() - at) / 60000), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
		if (minutes < 1) return "just now";
		if (hours < 1) return `${minutes} min ago`;
		if (days < 1) return `${hours} h ago`;
		if (days < 7) return `${days} d ago`;
		return new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
	};
	const refresh = () => {
		for (const li of list.children) li.querySelector("time").textContent = ago(Number(li.dataset.at));
	};
	setInterval(refresh, 30000);

	const key = (uri) => uri.slice(uri.lastIndexOf("/") + 1); // the record key, which orders what is of the same time
	const find = (uri) => [...list.children].find((li) => li.dataset.record === uri);
	const of = (did) => [...list.children].filter((li) => li.dataset.did === did);
	const name = (li, m) => {
		li.querySelector(".name").textContent = m.name;
		let handle = li.querySelector(".handle");
		if (!handle && m.handle) {
			handle = document.createElement("bdi");
			handle.className = "handle";
			li.querySelector(".who").append(" ", handle);
		}
		if (handle) handle.textContent = m.handle || "";
	};
	const changed = () => { $("nothing").hidden = list.children.length > 0; };

	// Somebody who cannot see the page hears what is new, but not each of many.
	let news = "", timer;
	const say = (text) => {
		news = text;
		timer ||= setTimeout(() => { $("news").textContent = news; timer = undefined; }, 2000);
	};

	const on = {
		status(m) {
			const at = Date.parse(m.at), old = find(m.uri);
			const li = document.importNode($("post").content, true).querySelector("li");
			li.dataset.record = m.uri;
			li.dataset.did = m.did;
			li.dataset.at = at;
			li.querySelector(".emoji").textContent = m.status;
			name(li, m);
			const time = li.querySelector("time");
			time.dateTime = m.at;
			time.textContent = ago(at);
			if (me && m.did === me) {
				const form = document.importNode($("remove").content, true);
				form.querySelector("[name=uri]").value = m.uri;
				form.querySelector("button").setAttribute("aria-label", `Remove ${m.status}`);
				li.append(form);
			}
			old?.remove();
			const next = [...list.children].find((x) => Number(x.dataset.at) < at || Number(x.dataset.at) === at && key(x.dataset.record) < key(m.uri));
			list.insertBefore(li, next || null);
			if (!old) {
				li.classList.add("new");
				if (m.did !== me && Date.now() - at < 60000) say(`${m.name}: ${m.status}`);
			}
			while (list.children.length > Number(most)) list.lastElementChild.remove();
			own();
		},
		removed(m) {
			find(m.uri)?.remove();
			own();
		},
		hidden(m) {
			for (const li of of(m.did)) li.remove();
			own();
		},
		renamed(m) {
			for (const li of of(m.did)) name(li, m);
		},
		top(m) {
			$("people").textContent = m.people === 0 ? "Nobody yet" : m.people === 1 ? "1 person" : `${m.people} people`;
			$("top").replaceChildren(...m.top.map((t) => {
				const li = document.createElement("li"), text = document.createElement("bdi"), n = document.createElement("b");
				text.textContent = t.status;
				n.textContent = t.count;
				li.append(text, " ", n);
				return li;
			}));
		},
		reset() { location.reload(); },
	};

	// One's own status, if it was set somewhere else.
	const own = () => {
		changed();
		const orb = $("orb"), mine = me && of(me)[0]?.querySelector(".emoji").textContent;
		if (!orb || !mine) return;
		const text = document.createElement("bdi");
		text.textContent = mine;
		orb.replaceChildren(text);
		orb.classList.remove("empty");
		for (const b of document.querySelectorAll(".grid button")) {
			const current = b.value === mine;
			b.classList.toggle("current", current);
			if (current) b.setAttribute("aria-current", "true"); else b.removeAttribute("aria-current");
		}
	};

	// The browser connects again by itself when the connection breaks, and says which event was the
	// last one. When the server had no room, it gives up: then this asks again.
	let after = last;
	const connect = () => {
		const source = new EventSource(`/live?after=${after}`);
		source.onopen = () => { state.hidden = false; };
		source.onerror = () => {
			state.hidden = true;
			if (source.readyState === EventSource.CLOSED) setTimeout(connect, 15000 + Math.random() * 15000);
		};
		for (const [kind, apply] of Object.entries(on)) {
			source.addEventListener(kind, (e) => {
				if (kind === "reset") source.close();
				if (e.lastEventId) after = e.lastEventId;
				apply(JSON.parse(e.data));
			});
		}
		addEventListener("pagehide", () => source.close(), { once: true });
	};
	addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
	connect();
	refresh();
})();
