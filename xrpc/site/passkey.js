// Passkeys on pages (WebAuthn Level 3). All else works without this file: it shows a form that is
// hidden, asks the authenticator, and sends the form with its answer.
//
// The form has the id "passkey". data-options is where options come from, data-token the token for
// that, data-ceremony "get" or "create". data-cancelled, data-failed and data-duplicate are messages.
// A "get" offers passkeys in the field of the name too, where the browser can do that.
"use strict";
(() => {
  const form = document.getElementById("passkey");
  if (!form || !window.PublicKeyCredential || !navigator.credentials) return;
  const button = document.getElementById("passkey-button");
  const problem = document.getElementById("passkey-problem");
  const creates = form.dataset.ceremony === "create";
  // A browser that waits for the field asks anew before a challenge ends, for an hour.
  const renewAfter = 4 * 60 * 1000;
  const renewals = 15;
  let waiting = null;

  const bytes = (text) => {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(plain, (c) => c.charCodeAt(0));
  };
  const text = (buffer) => {
    const plain = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  };

  async function options() {
    const fields = new URLSearchParams({ token: form.dataset.token });
    if (form.elements.flow) fields.set("flow", form.elements.flow.value);
    const answer = await fetch(form.dataset.options, { method: "POST", body: fields, headers: { Accept: "application/json" } });
    const o = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(o.message), { name: "Told" });
    o.challenge = bytes(o.challenge);
    if (o.user) o.user.id = bytes(o.user.id);
    for (const list of [o.allowCredentials, o.excludeCredentials]) {
      for (const c of list || []) c.id = bytes(c.id);
    }
    return o;
  }

  function send(credential) {
    const r = credential.response;
    const answer = { clientDataJSON: text(r.clientDataJSON) };
    if (creates) {
      answer.attestationObject = text(r.attestationObject);
      answer.transports = r.getTransports ? r.getTransports() : [];
    } else {
      answer.authenticatorData = text(r.authenticatorData);
      answer.signature = text(r.signature);
      answer.userHandle = r.userHandle ? text(r.userHandle) : "";
    }
    form.elements.response.value = JSON.stringify({ id: credential.id, rawId: text(credential.rawId), type: credential.type, response: answer });
    const remember = document.getElementById("remember");
    if (remember && form.elements.remember) form.elements.remember.value = remember.checked ? remember.value : "";
    form.submit();
  }

  function show(message) {
    problem.textContent = message;
    problem.hidden = !message;
  }

  async function ask() {
    if (creates && !form.reportValidity()) return;
    if (waiting) waiting.abort("button");
    button.disabled = true;
    show("");
    try {
      const publicKey = await options();
      send(await (creates ? navigator.credentials.create({ publicKey }) : navigator.credentials.get({ publicKey })));
    } catch (e) {
      const messages = { NotAllowedError: "cancelled", AbortError: "cancelled", InvalidStateError: "duplicate" };
      show((e.name === "Told" && e.message) || form.dataset[messages[e.name]] || form.dataset.failed);
      button.disabled = false;
    }
  }

  async function offer() {
    const can = PublicKeyCredential.isConditionalMediationAvailable;
    if (creates || !can || !(await can.call(PublicKeyCredential))) return;
    for (let i = 0; i < renewals; i++) {
      const controller = (waiting = new AbortController());
      const signal = controller.signal;
      const timer = setTimeout(() => controller.abort("renew"), renewAfter);
      try {
        const publicKey = await options();
        if (!signal.aborted) send(await navigator.credentials.get({ publicKey, mediation: "conditional", signal }));
        if (!signal.aborted) return;
      } catch (e) {
        if (signal.reason !== "renew") return;
      } finally {
        clearTimeout(timer);
      }
      if (signal.reason !== "renew") return;
    }
  }

  form.hidden = false;
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    ask();
  });
  // A page that comes back from the browser's memory begins anew.
  window.addEventListener("pageshow", (e) => {
    if (e.persisted) window.location.reload();
  });
  offer();
})();
