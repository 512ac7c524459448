// The annotator's page: keyboard, drafts, undo, offline queue. The server renders everything; this file only moves it.
// It works on numbers of answers as shown; the server knows what they stand for. Texts are set as textContent, and HTML comes
// from our own server only, where it was cleaned.
(() => {
  "use strict";
  const app = document.getElementById("app");
  const area = document.getElementById("task-area");
  const csrf = app.dataset.csrf;
  const words = JSON.parse(app.dataset.words);
  const VERSION = "page-1";
  const WAITING = "posttrain.waiting";
  const $ = (selector, root = area) => root.querySelector(selector);
  const all = (selector, root = area) => [...root.querySelectorAll(selector)];
  let task = null; // what is on the screen: see mount()

  const store = {
    read() { try { return JSON.parse(localStorage.getItem(WAITING) || "[]"); } catch { return []; } },
    write(rows) { try { localStorage.setItem(WAITING, JSON.stringify(rows)); } catch { /* full or private: kept in memory only */ } },
  };
  let waiting = store.read();
  const identity = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

  function toast(text, bad = false) {
    const box = document.getElementById("toast");
    box.textContent = text;
    box.className = bad ? "shown bad" : text ? "shown" : "";
    clearTimeout(toast.timer);
    if (text && !bad) toast.timer = setTimeout(() => { box.className = ""; }, 2200);
  }
  const say = (text) => { document.getElementById("say").textContent = text; };

  async function call(path, body) {
    const made = await fetch(path, body === undefined ? { headers: { Accept: "application/json, text/html" } } : {
      method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf }, body: JSON.stringify(body),
    });
    if (made.status === 401) { location.assign("/login"); return new Promise(() => {}); }
    return made;
  }

  // --- one task ---------------------------------------------------------------------------------------------------------------
  function mount() {
    all(".needs-script").forEach((node) => { node.hidden = false; });
    const form = $("#verdict");
    guidelines();
    poll();
    task = null;
    if (!form) return;
    task = {
      id: form.dataset.task, queue: form.dataset.queue, question: form.dataset.question, n: Number(form.dataset.n), form,
      axes: form.dataset.axes.split(",").filter(Boolean), tiers: [], tie: false, at: -1, raw: false, compare: null, spans: [],
      flag: "", active: 0, since: document.hidden ? null : performance.now(), losses: 0, sent: false,
    };
    form.addEventListener("submit", submitted);
    form.addEventListener("input", changed);
    $("#ranking")?.addEventListener("input", typed);
    restore(JSON.parse(form.dataset.draft));
    if ($("#ranking")?.value) typed();
    drawn();
  }

  function restore(draft) {
    if (!draft) return;
    const field = (name, value) => {
      for (const node of all(`[name="${CSS.escape(name)}"]`)) {
        if (node.type === "radio") node.checked = node.value === String(value);
        else node.value = value;
      }
    };
    Object.entries(draft.fields || {}).forEach(([name, value]) => field(name, value));
    task.tiers = draft.tiers || [];
    task.spans = draft.spans || [];
    task.flag = draft.flag || "";
    task.active = (draft.seconds || 0) * 1000;
    if ($("#comment").value) $("#more").open = true;
    if (task.question === "ranking" && task.tiers.length) $("#ranking").value = text(task.tiers);
  }

  const text = (tiers) => tiers.map((tier) => tier.join(" = ")).join(" > ");
  const seconds = () => (task.active + (task.since === null ? 0 : performance.now() - task.since)) / 1000;
  const ranked = () => task.tiers.flat();

  // --- ranking ------------------------------------------------------------------------------------------------------------------
  function rank(place, tied) {
    if (task.question !== "ranking" || place >= task.n) return;
    if (ranked().includes(place)) return;
    if ((tied || task.tie) && task.tiers.length) task.tiers[task.tiers.length - 1].push(place);
    else task.tiers.push([place]);
    task.tie = false;
    touched();
  }
  function back() {
    if (task.tie) task.tie = false;
    else if (task.tiers.length) {
      const last = task.tiers[task.tiers.length - 1];
      last.pop();
      if (!last.length) task.tiers.pop();
    }
    touched();
  }
  function touched() {
    $("#ranking").value = text(task.tiers) + (task.tie ? " =" : "");
    drawn();
    changed();
  }
  function typed() { // the text field is the same ranking, typed
    const value = $("#ranking").value;
    const parts = value.split(/[>＞]/).map((tier) => tier.split(/[=＝]/).map((s) => s.replace(/[[\]\s]/g, "")).filter(Boolean));
    const numbers = parts.map((tier) => tier.map((s) => (/^[A-Ha-h]$/.test(s) ? s.toUpperCase().charCodeAt(0) - 65 : /^\d$/.test(s) ? Number(s) : -1)));
    if (numbers.flat().every((k) => k >= 0 && k < task.n) && new Set(numbers.flat()).size === numbers.flat().length) {
      task.tiers = numbers.filter((tier) => tier.length);
      drawn();
    }
  }
  function drawn() {
    if (task.question !== "ranking") { views(); return; }
    const chips = $("#chips");
    chips.replaceChildren();
    task.tiers.forEach((tier, rankAt) => {
      if (rankAt) chips.append(" › ");
      tier.forEach((place, i) => {
        if (i) chips.append(" = ");
        const chip = document.createElement("span");
        chip.className = "chip";
        chip.textContent = place;
        chips.append(chip);
      });
    });
    if (task.tie) chips.append(" = …");
    if (!task.tiers.length) {
      const hint = document.createElement("span");
      hint.className = "muted";
      hint.textContent = words.ranking_empty;
      chips.append(hint);
    }
    all(".answer").forEach((card) => {
      const at = task.tiers.findIndex((tier) => tier.includes(Number(card.dataset.place)));
      $(".badge", card).textContent = at < 0 ? "" : `#${at + 1}`;
      card.classList.toggle("ranked", at >= 0);
      card.classList.toggle("best", at === 0);
      all("[data-act=rank], [data-act=tie]", card).forEach((b) => { b.disabled = at >= 0; });
    });
    const complete = ranked().length === task.n;
    $("#submit").classList.toggle("ready", complete);
    $("#ranking-error").textContent = "";
    say(text(task.tiers));
    views();
  }

  // --- views: raw, differences, folding -----------------------------------------------------------------------------------------
  function views() {
    const compared = task.compare;
    all(".answer").forEach((card) => {
      const here = compared && compared.includes(Number(card.dataset.place)) && $(".view-difference", card).childNodes.length;
      $(".view-difference", card).hidden = !here;
      $(".view-rendered", card).hidden = task.raw || here;
      $(".view-raw", card).hidden = !task.raw || here;
    });
    $("#raw")?.setAttribute("aria-pressed", String(task.raw));
    $("#compare")?.setAttribute("aria-pressed", String(Boolean(compared)));
  }
  async function compare() {
    if (task.n < 2) return;
    if (task.compare && task.n === 2) { task.compare = null; views(); return; }
    const a = task.at < 0 ? 0 : task.at;
    const last = task.compare && task.compare[0] === a ? task.compare[1] : a;
    let b = (last + 1) % task.n;
    if (b === a && task.compare) { task.compare = null; views(); return; }
    if (b === a) b = (a + 1) % task.n;
    const made = await call(`/difference?task=${task.id}&a=${a}&b=${b}`);
    if (!made.ok) return;
    const body = await made.json();
    if (body.a === null) { toast(words.too_long_to_compare); return; }
    $(`#answer-${a} .view-difference`).innerHTML = body.a; // escaped by our server, only del and ins around words
    $(`#answer-${b} .view-difference`).innerHTML = body.b;
    task.compare = [a, b];
    views();
  }
  function focus(place) {
    task.at = Math.max(0, Math.min(task.n - 1, place));
    const card = $(`#answer-${task.at}`);
    if (card) { card.focus(); card.scrollIntoView({ block: "nearest" }); }
  }

  // --- marked passages ----------------------------------------------------------------------------------------------------------
  async function mark() {
    const picked = getSelection();
    const body = picked.rangeCount ? picked.getRangeAt(0).startContainer.parentElement?.closest(".view-raw") : null;
    if (!body || picked.isCollapsed || !body.contains(picked.getRangeAt(0).endContainer)) { toast(words.mark_hint); return; }
    const range = picked.getRangeAt(0).cloneRange();
    const before = document.createRange();
    before.selectNodeContents(body);
    before.setEnd(range.startContainer, range.startOffset);
    const start = before.toString().length;
    const end = start + range.toString().length;
    const label = await question(words.mark_label);
    if (label === null) return;
    task.spans.push({ response: Number(body.closest(".answer").dataset.place), start, end, label });
    changed();
  }
  function marks() {
    $("#marks").replaceChildren(...task.spans.map((span, i) => {
      const row = document.createElement("li");
      const drop = document.createElement("button");
      drop.type = "button";
      drop.className = "small quiet";
      drop.textContent = "×";
      drop.setAttribute("aria-label", words.remove_last);
      drop.addEventListener("click", () => { task.spans.splice(i, 1); changed(); });
      row.append(`${span.response}: ${span.start}–${span.end} ${span.label} `, drop);
      return row;
    }));
  }

  // --- drafts ------------------------------------------------------------------------------------------------------------------
  function fields() {
    const made = {};
    all("#verdict input, #verdict select, #verdict textarea").forEach((node) => {
      if (!node.name || ["csrf", "task", "kind"].includes(node.name) || (node.type === "radio" && !node.checked)) return;
      made[node.name] = node.value;
    });
    return made;
  }
  function changed() {
    marks();
    clearTimeout(changed.timer);
    changed.timer = setTimeout(saveDraft, 400);
  }
  async function saveDraft() {
    if (!task || task.sent) return;
    const body = { fields: fields(), tiers: task.tiers, spans: task.spans, flag: task.flag, seconds: seconds() };
    try {
      const made = await call("/drafts", { task: task.id, body });
      if (made.ok && $("#saved")) $("#saved").textContent = words.draft_saved;
    } catch { /* the next change tries again */ }
  }

  // --- submitting ----------------------------------------------------------------------------------------------------------------
  function verdict(kind, more = {}) {
    const f = fields();
    const made = {
      task: task.id, client: identity(), kind, comment: f.comment || "", flag: task.flag, spans: task.spans,
      seconds: Math.round(seconds() * 10) / 10, focus_losses: task.losses, version: VERSION, ...more,
    };
    if (f.confidence) made.confidence = Number(f.confidence);
    if (kind === "ranking") made.ranking = $("#ranking").value;
    if (kind === "rating") {
      made.ratings = {};
      for (let p = 0; p < task.n; p += 1) {
        made.ratings[p] = Object.fromEntries(task.axes.map((axis) => [axis, Number(f[`rate-${p}-${axis}`])]));
      }
    }
    if (kind === "label") made.labels = Object.fromEntries([...Array(task.n).keys()].map((p) => [p, f[`label-${p}`] === "good"]));
    if (kind === "write" || kind === "edit") made.text = f.text;
    if (kind === "edit") made.edits = 0;
    return made;
  }
  async function submitted(event) {
    event.preventDefault();
    const act = event.submitter?.value || "submit";
    if (act === "skip") { skip(); return; }
    send(verdict(act === "both_bad" ? "both_bad" : task.question));
  }
  async function skip() {
    const why = await question(words.skip_reason);
    if (why !== null) send(verdict("skip", { reason: why }));
  }
  function send(body) {
    if (task.sent) return;
    if (body.kind === "ranking") {
      const here = ranked().length === task.n;
      if (!here && !task.tie) {
        $("#ranking-error").textContent = words.ranking_hint;
        $("#ranking").setAttribute("aria-invalid", "true");
        return;
      }
    }
    task.sent = true;
    clearTimeout(changed.timer);
    area.setAttribute("aria-busy", "true");
    waiting.push(body);
    store.write(waiting);
    flush();
  }
  async function flush() { // every answer is kept here until the server has said that it has it; its own id makes repeats harmless
    if (flush.running) return;
    flush.running = true;
    clearTimeout(flush.timer);
    let wait = 1000;
    while (waiting.length) {
      let made;
      try {
        made = await call("/judgments", waiting[0]);
      } catch { made = null; }
      if (made && (made.ok || (made.status >= 400 && made.status < 500 && made.status !== 429))) {
        const body = made.ok ? null : await made.json().catch(() => ({ error: made.status }));
        waiting.shift();
        store.write(waiting);
        if (body) {
          toast(body.error, true);
          if (task && made.status === 400) { task.sent = false; area.removeAttribute("aria-busy"); flush.running = false; return; }
        }
        continue;
      }
      toast(words.offline, true);
      await new Promise((done) => { flush.timer = setTimeout(done, wait); });
      wait = Math.min(wait * 2, 15000);
    }
    flush.running = false;
    await load();
  }
  async function load() {
    const queue = new URLSearchParams(location.search).get("queue") || task?.queue;
    try {
      const made = await call(`/next?as=html${queue ? `&queue=${encodeURIComponent(queue)}` : ""}`);
      if (!made.ok) { toast((await made.json()).error, true); return; }
      area.innerHTML = await made.text(); // a piece of our own page
    } catch {
      toast(words.offline, true);
      setTimeout(load, 2000);
      return;
    }
    area.removeAttribute("aria-busy");
    toast("");
    mount();
    scrollTo(0, 0);
    say($("#done")?.textContent || "");
  }
  async function undo() {
    clearTimeout(changed.timer);
    try {
      const made = await call("/undo", { client: identity(), queue: task?.queue || null });
      const body = await made.json();
      if (!made.ok) { toast(body.error, true); return; }
      if (!body.task) { toast(words.nothing_to_undo); return; }
      await load();
      toast(words.undone);
    } catch { toast(words.offline, true); }
  }

  // --- small things -----------------------------------------------------------------------------------------------------------
  function question(title) { // resolves with the text, or null when it was cancelled
    const box = document.getElementById("question");
    const input = document.getElementById("question-text");
    document.getElementById("question-title").textContent = title;
    input.value = "";
    box.returnValue = "cancel";
    box.showModal();
    input.focus();
    return new Promise((done) => box.addEventListener("close", () => done(box.returnValue === "ok" ? input.value.trim() : null), { once: true }));
  }
  document.getElementById("question-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); document.getElementById("question").close("ok"); }
  });
  async function flag() {
    const why = await question(words.flag_reason);
    if (why === null) return;
    task.flag = why || words.flag;
    $("#flag").classList.add("on");
    changed();
  }
  function guidelines() {
    const box = $("#guide");
    if (!box) return;
    const [id, version] = box.dataset.version.split(":");
    let seen = null;
    try { seen = localStorage.getItem(`guide.${id}`); localStorage.setItem(`guide.${id}`, version); } catch { /* not remembered */ }
    if (seen !== null && seen !== version) { box.open = true; $(".new", box).hidden = false; }
    else if (matchMedia("(max-width: 900px)").matches) box.open = false;
  }
  function poll() { // whoever writes a prompt meanwhile keeps it
    if (!$("[data-poll]")) return;
    setTimeout(() => (document.getElementById("live-prompt")?.value ? poll() : load()), 3000);
  }

  area.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const card = event.target.closest(".answer");
    if (card && task) task.at = Number(card.dataset.place);
    if (!button) return;
    const act = button.dataset.act;
    if (button.id === "undo") { event.preventDefault(); undo(); }
    else if (!task) return;
    else if (act === "rank") rank(task.at, false);
    else if (act === "tie") rank(task.at, true);
    else if (act === "back") back();
    else if (act === "clear") { task.tiers = []; task.tie = false; touched(); }
    else if (act === "unfold") {
      const folded = card.classList.toggle("folded");
      button.textContent = folded ? words.show_all : words.show_less;
    } else if (button.id === "raw") { task.raw = !task.raw; views(); }
    else if (button.id === "compare") compare();
    else if (button.id === "mark") mark();
    else if (button.id === "flag") flag();
  });
  area.addEventListener("focusin", (event) => {
    const card = event.target.closest(".answer");
    if (card && task) task.at = Number(card.dataset.place);
  });
  area.addEventListener("submit", async (event) => {
    if (event.target.id !== "live") return;
    event.preventDefault();
    const box = document.getElementById("live-prompt");
    if (!box.value.trim()) return;
    toast(words.sending);
    event.target.querySelector("button").disabled = true;
    const made = await call("/ask", { prompt: box.value, queue: task?.queue || null });
    const body = await made.json();
    if (!made.ok) toast(body.error, true);
    await load();
    toast(made.ok ? body.note : body.error, !made.ok);
  });

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    if (event.ctrlKey || event.metaKey) { // the way out of a text field
      if (event.key === "Enter" && task && !task.sent && task.form.contains(event.target)) { event.preventDefault(); task.form.requestSubmit($("#submit")); }
      return;
    }
    if (event.altKey) {
      if (["1", "2", "3"].includes(event.key) && task) {
        event.preventDefault();
        const input = $(`[name=confidence][value="${event.key}"]`);
        if (input) { input.checked = true; changed(); }
      }
      return;
    }
    const here = event.target;
    const writing = here.matches("textarea, select, input:not([type=radio])");
    if (event.key === "Escape" && writing) { here.blur(); return; }
    if (writing) return;
    if (event.key === "?") { event.preventDefault(); document.getElementById("help").showModal(); return; }
    if (event.key === "u") { event.preventDefault(); undo(); return; }
    if (!task || task.sent) return;
    const keys = {
      "=": () => { if (task.tiers.length) { task.tie = true; touched(); } },
      Backspace: back, j: () => focus(task.at + 1), k: () => focus(task.at - 1), s: skip, f: flag, r: () => { task.raw = !task.raw; views(); },
      d: compare, m: mark, b: () => { if ($("#both-bad")) send(verdict("both_bad")); },
      c: () => { $("#more").open = true; $("#comment").focus(); },
      Enter: () => { if (here.matches("button, a, summary")) return false; if (task.form.reportValidity()) send(verdict(task.question)); return true; },
    };
    if (/^\d$/.test(event.key) && task.question === "ranking") { event.preventDefault(); rank(Number(event.key), false); return; }
    if (keys[event.key] && keys[event.key]() !== false) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!task) return;
    if (document.hidden) { task.active += task.since === null ? 0 : performance.now() - task.since; task.since = null; task.losses += 1; }
    else task.since = performance.now();
  });
  const help = document.getElementById("help-open");
  help.hidden = false;
  help.addEventListener("click", () => document.getElementById("help").showModal());
  addEventListener("online", () => { if (waiting.length) flush(); });

  mount();
  if (waiting.length) flush();
})();
